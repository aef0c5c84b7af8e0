"""Anthropic's own client for Python, unchanged but for its base URL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types import (
    DocumentBlockParam,
    MessageParam,
    SearchResultBlockParam,
    TextBlock,
    ThinkingConfigParam,
    ToolParam,
    ToolResultBlockParam,
    ToolUseBlock,
)
from pydantic import BaseModel

from tests.clients.upstream import Upstream

WEATHER: ToolParam = {
    "name": "weather",
    "description": "Tells it.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PDF = "JVBERi0="
PIXEL = "iVBORw0KGgo="


class Person(BaseModel):
    name: str
    age: int


def said(text: str) -> list[MessageParam]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def client(ours: str) -> Iterator[anthropic.Anthropic]:
    url = ours.removesuffix("/v1")
    with anthropic.Anthropic(api_key="any", base_url=url, max_retries=0) as vendor:
        yield vendor


@pytest.mark.parametrize("model", ["gpt-4o", "team/gpt-4o-mini", "either", "shout", "everything"])
def test_an_answer_is_the_same_whole_and_streamed(client: anthropic.Anthropic, model: str) -> None:
    asked = said("one two three")
    whole = client.messages.create(model=model, max_tokens=99, messages=asked)
    with client.messages.stream(model=model, max_tokens=99, messages=asked) as stream:
        pieces = list(stream.text_stream)
        last = stream.get_final_message()
    assert pieces == ["one ", "two ", "three"], "as it was said, word by word"
    for found in (whole, last):
        (block,) = found.content
        assert block.type == "text"
        assert (block.text, found.model, found.stop_reason) == ("one two three", model, "end_turn")
        assert (found.usage.input_tokens, found.usage.output_tokens) == (5, 2)
    assert whole._request_id


def test_tools_are_called_and_the_conversation_goes_on(
    client: anthropic.Anthropic, upstream: Upstream
) -> None:
    asked = said("weather?")
    first = client.messages.create(model="gpt-4o", max_tokens=99, messages=asked, tools=[WEATHER])
    (call,) = first.content
    assert isinstance(call, ToolUseBlock)
    assert (call.name, call.input, first.stop_reason) == ("weather", {"city": "Paris"}, "tool_use")
    result: ToolResultBlockParam = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": "sunny",
    }
    with client.messages.stream(
        model="gpt-4o",
        max_tokens=99,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=[
            *asked,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ],
        tools=[WEATHER],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
    ) as stream:
        assert stream.get_final_text() == "sunny"
    sent = upstream.seen[-1]
    assert [each["role"] for each in sent["messages"]] == ["system", "user", "assistant", "tool"]
    assert sent["parallel_tool_calls"] is False


def test_a_streamed_call_comes_in_pieces(client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model="gpt-4o", max_tokens=99, messages=said("weather?"), tools=[WEATHER]
    ) as stream:
        pieces = [each.partial_json for each in stream if each.type == "input_json"]
        (call,) = stream.get_final_message().content
    assert "".join(pieces) == '{"city": "Paris"}'
    assert isinstance(call, ToolUseBlock)
    assert call.input == {"city": "Paris"}


def test_an_answer_fits_its_schema(client: anthropic.Anthropic, upstream: Upstream) -> None:
    found = client.messages.parse(
        model="gpt-4o", max_tokens=99, messages=said("who?"), output_format=Person
    )
    assert found.parsed_output == Person(name="Ada", age=36)
    assert upstream.seen[-1]["response_format"]["type"] == "json_schema"


def test_images_and_documents_reach_the_provider(
    client: anthropic.Anthropic, upstream: Upstream
) -> None:
    client.messages.create(
        model="gpt-4o",
        max_tokens=99,
        messages=[
            {
                "role": "user",
                "content": [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                    },
                    {"type": "image", "source": {"type": "url", "url": "https://a.test/b.png"}},
                    {
                        "type": "document",
                        "title": "a.pdf",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                    },
                    {"type": "text", "text": "what is it?"},
                ],
            }
        ],
    )
    kinds = [part["type"] for part in upstream.seen[-1]["messages"][0]["content"]]
    assert kinds == ["image_url", "image_url", "file", "text"]


def test_an_error_is_the_exception_that_it_always_is(client: anthropic.Anthropic) -> None:
    for status, kind in (
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (401, anthropic.InternalServerError),
    ):
        with pytest.raises(kind) as caught:
            client.messages.create(model="gpt-4o", max_tokens=9, messages=said(f"fail {status}"))
        assert caught.value.request_id
        assert caught.value.body["type"] == "error"  # type: ignore[index]
    with pytest.raises(anthropic.NotFoundError, match="does not exist"):
        client.messages.create(model="nobody", max_tokens=9, messages=said("Hi"))
    with pytest.raises(anthropic.BadRequestError, match=r"tools\[0\]\.type: 'web_search_20250305'"):
        client.messages.create(
            model="gpt-4o",
            max_tokens=9,
            messages=said("Hi"),
            tools=[{"type": "web_search_20250305", "name": "web_search"}],
        )


def test_what_may_help_is_tried_again_and_nothing_else(ours: str, upstream: Upstream) -> None:
    url = ours.removesuffix("/v1")
    with anthropic.Anthropic(api_key="any", base_url=url, max_retries=1) as client:
        for text, tries in (("fail 503", 2), ("fail 401", 1)):
            before = len(upstream.seen)
            with pytest.raises(anthropic.APIStatusError):
                client.messages.create(model="gpt-4o", max_tokens=9, messages=said(text))
            assert len(upstream.seen) - before == tries


@pytest.mark.parametrize("text", ["break", "cut"])
def test_a_broken_stream_never_looks_complete(client: anthropic.Anthropic, text: str) -> None:
    seen: list[str] = []
    with (
        client.messages.create(
            model="gpt-4o", max_tokens=9, messages=said(text), stream=True
        ) as stream,
        pytest.raises(anthropic.APIStatusError, match="'type': 'error'"),
    ):
        seen.extend(each.type for each in stream)
    assert seen[-1] == "content_block_delta"


def test_a_client_that_leaves_stops_the_provider(
    client: anthropic.Anthropic, upstream: Upstream
) -> None:
    upstream.left.clear()
    with client.messages.stream(model="gpt-4o", max_tokens=9, messages=said("hang")) as stream:
        next(iter(stream.text_stream))
    assert upstream.left.wait(10)


def test_the_asynchronous_client_streams_too(ours: str) -> None:
    async def main() -> str:
        url = ours.removesuffix("/v1")
        async with (
            anthropic.AsyncAnthropic(auth_token="any", base_url=url) as client,
            client.messages.stream(
                model="gpt-4o", max_tokens=9, messages=said("one two")
            ) as stream,
        ):
            return await stream.get_final_text()

    assert asyncio.run(main()) == "one two"


def test_tokens_are_counted_and_models_listed(client: anthropic.Anthropic) -> None:
    few = client.messages.count_tokens(model="gpt-4o", messages=said("Hi"))
    more = client.messages.count_tokens(model="gpt-4o", messages=said("Hi" * 99), tools=[WEATHER])
    assert 0 < few.input_tokens < more.input_tokens
    names = [each.id for each in client.models.list()]
    assert {"default", "gpt-4o", "either", "shout"} <= set(names)
    found = client.models.retrieve("team/gpt-4o-mini")
    assert (found.id, found.type, found.lifecycle) == ("team/gpt-4o-mini", "model", "active")


def test_a_tool_runner_goes_on_without_a_thread(
    client: anthropic.Anthropic, upstream: Upstream
) -> None:
    """It asks for one by itself, and knows by the code of the refusal that there is none."""

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Tells it."""
        return f"sunny in {city}"

    for stream in (False, True):
        before = len(upstream.seen)
        runner = client.beta.messages.tool_runner(
            model="gpt-4o",
            max_tokens=99,
            tools=[weather],
            messages=[{"role": "user", "content": "weather?"}],
            stream=stream,
        )
        (block,) = runner.until_done().content
        assert block.type == "text"
        assert block.text == "sunny in Paris"
        assert len(upstream.seen) - before == 2


FOUND: SearchResultBlockParam = {
    "type": "search_result",
    "title": "Rivers",
    "source": "https://a.test/",
    "content": [{"type": "text", "text": "The Seine"}, {"type": "text", "text": "is long."}],
}
CALLED: MessageParam = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "c", "name": "weather", "input": {}}],
}


def test_what_a_search_has_found_is_told_to_the_model(
    client: anthropic.Anthropic, upstream: Upstream
) -> None:
    """By a document of the user, or in the result of a tool."""
    told = "\nRivers (https://a.test/):\n\nThe Seine\n\nis long.\n"
    for model in ("gpt-4o", "claude"):
        client.messages.create(
            model=model,
            max_tokens=99,
            messages=[
                {"role": "user", "content": [FOUND, {"type": "text", "text": "well?"}]},
                CALLED,
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "c",
                            "content": [FOUND, {"type": "tool_reference", "tool_name": "weather"}],
                        }
                    ],
                },
            ],
            tools=[WEATHER],
        )
        first, _, last = upstream.seen[-1]["messages"]
        shown, result = first["content"][0], last["content"]
        if model == "claude":
            assert shown["title"] == "Rivers (https://a.test/)"
            result = result[0]["content"]
        else:
            assert shown["text"] == told
        assert result == f"{told}The tool 'weather' can be called now.\n"


PAPER: DocumentBlockParam = {
    "type": "document",
    "title": "Paper",
    "source": {"type": "text", "media_type": "text/plain", "data": "cited"},
}


@pytest.mark.parametrize("shown", [PAPER, FOUND], ids=["a document", "a search result"])
def test_what_claude_cites_is_told_block_by_block(
    client: anthropic.Anthropic, shown: DocumentBlockParam | SearchResultBlockParam
) -> None:
    """Whole, as the client's own stream puts it together, and as its events come."""
    cited = {**shown, "citations": {"enabled": True}}
    question: list[Any] = [cited, {"type": "text", "text": "one two"}]
    asked: list[MessageParam] = [{"role": "user", "content": question}]
    whole = client.messages.create(model="claude", max_tokens=99, messages=asked)
    with client.messages.stream(model="claude", max_tokens=99, messages=asked) as stream:
        events = list(stream)
        last = stream.get_final_message()
    words: list[TextBlock] = []
    for found in (whole, last):
        texts = [each for each in found.content if each.type == "text"]
        first, words = texts[0], texts[1:]
        assert (first.text, first.citations) == ("one two", None)
        assert [each.text for each in words] == ["one", "two"]
        for word in words:
            (location,) = list(word.citations or [])
            assert location.cited_text == "cited"
            assert (
                location.type
                == {
                    "document": "char_location",
                    "search_result": "search_result_location",
                }[shown["type"]]
            )
    told = [each.citation for each in events if each.type == "citation"]
    assert told == [each for block in words for each in block.citations or ()]
    again: MessageParam = {"role": "assistant", "content": whole.content}
    client.messages.create(
        model="claude", max_tokens=99, messages=[*asked, again, *said("And now?")]
    )


def test_who_cannot_cite_says_so(client: anthropic.Anthropic) -> None:
    cited: Any = {**PAPER, "citations": {"enabled": True}}
    asked: list[MessageParam] = [{"role": "user", "content": [cited]}]
    for model in ("gpt-4o", "either"):
        with pytest.raises(anthropic.BadRequestError, match="cannot cite the file 'Paper'; leave"):
            client.messages.create(model=model, max_tokens=99, messages=asked)


def test_claude_thinks_as_long_as_it_was_asked_to(
    client: anthropic.Anthropic, upstream: Upstream
) -> None:
    for budget in (1500, 8999):
        asked: ThinkingConfigParam = {"type": "enabled", "budget_tokens": budget}
        client.messages.create(model="claude", max_tokens=9000, messages=said("Hi"), thinking=asked)
        assert upstream.seen[-1]["thinking"] == asked
        assert upstream.seen[-1]["max_tokens"] == 9000


def test_what_is_the_version_of_other_houses_reaches_no_provider(
    client: anthropic.Anthropic, upstream: Upstream
) -> None:
    """At Amazon and Google, it stands in the body, and Anthropic refuses it there."""
    other = {"anthropic_version": "vertex-2023-10-16"}
    client.messages.create(model="claude", max_tokens=9, messages=said("Hi"), extra_body=other)
    assert not {"anthropic_version"} & set(upstream.seen[-1])


@pytest.mark.parametrize("model", ["gpt-4o", "claude"])
def test_what_a_provider_says_is_told_in_its_own_words(
    client: anthropic.Anthropic, model: str
) -> None:
    words = "response_format: stop=1 and tool_choice='required' are wrong"
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model=model, max_tokens=9, messages=said(f"fail 400 {words}"))
    assert caught.value.body["error"]["message"] == words  # type: ignore[index]
