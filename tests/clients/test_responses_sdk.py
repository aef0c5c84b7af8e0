"""OpenAI's own client for Python asks the responses API, unchanged but for its base URL."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from openai.types.responses import FunctionToolParam, Response, ResponseFunctionToolCall
from pydantic import BaseModel

from tests.clients.upstream import Upstream

WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def client(ours: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="any", base_url=ours, max_retries=0) as vendor:
        yield vendor


@pytest.mark.parametrize("model", ["gpt-4o", "team/gpt-4o-mini", "either", "shout", "everything"])
def test_an_answer_is_the_same_whole_and_streamed(client: openai.OpenAI, model: str) -> None:
    whole = client.responses.create(model=model, input="one two three")
    assert (whole.output_text, whole.status, whole.model) == ("one two three", "completed", model)
    with client.responses.stream(model=model, input="one two three") as stream:
        pieces = [each.delta for each in stream if each.type == "response.output_text.delta"]
        last = stream.get_final_response()
    assert "".join(pieces) == last.output_text == "one two three"
    assert len(pieces) == 3, "as it was said, word by word"
    for found in (whole, last):
        assert found.usage is not None
        assert (found.usage.input_tokens, found.usage.output_tokens) == (5, 2)


def called(response: Response) -> list[ResponseFunctionToolCall]:
    return [each for each in response.output if isinstance(each, ResponseFunctionToolCall)]


def test_tools_are_called_and_the_conversation_goes_on(
    client: openai.OpenAI, upstream: Upstream
) -> None:
    first = client.responses.create(model="gpt-4o", input="weather?", tools=[WEATHER])
    (call,) = called(first)
    assert (call.name, call.arguments) == ("weather", '{"city": "Paris"}')
    with client.responses.stream(
        model="gpt-4o",
        previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}],
        tools=[WEATHER],
    ) as stream:
        assert stream.get_final_response().output_text == "sunny"
    roles = [each["role"] for each in upstream.seen[-1]["messages"]]
    assert roles == ["user", "assistant", "tool"]


def test_a_streamed_call_comes_in_pieces(client: openai.OpenAI) -> None:
    with client.responses.stream(model="gpt-4o", input="weather?", tools=[WEATHER]) as stream:
        pieces = [
            each.delta for each in stream if each.type == "response.function_call_arguments.delta"
        ]
        (call,) = called(stream.get_final_response())
    assert "".join(pieces) == call.arguments == '{"city": "Paris"}'


def test_an_answer_fits_its_schema(client: openai.OpenAI) -> None:
    found = client.responses.parse(model="gpt-4o", input="who?", text_format=Person)
    assert found.output_parsed == Person(name="Ada", age=36)


def test_what_was_kept_is_read_listed_and_deleted(client: openai.OpenAI) -> None:
    made = client.responses.create(model="gpt-4o", input="Hi", metadata={"topic": "x"})
    kept = client.responses.retrieve(made.id)
    assert (kept.output_text, kept.metadata) == ("Hi", {"topic": "x"})
    assert [each.type for each in client.responses.input_items.list(made.id)] == ["message"]
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError, match="no stored response"):
        client.responses.retrieve(made.id)


def test_an_error_is_the_exception_that_it_always_is(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        client.responses.create(model="gpt-4o", input="fail 429")
    assert caught.value.code == "provider_rate_limited"
    with pytest.raises(openai.BadRequestError, match="previous_response_id: no response"):
        client.responses.create(model="gpt-4o", input="Hi", previous_response_id="resp_none")


@pytest.mark.parametrize("said", ["break", "cut"])
def test_a_broken_stream_never_looks_complete(client: openai.OpenAI, said: str) -> None:
    seen: list[str] = []
    with (
        client.responses.create(model="gpt-4o", input=said, stream=True) as stream,
        pytest.raises(openai.APIError),
    ):
        seen.extend(each.type for each in stream)
    assert seen[-1] == "response.failed"


def test_a_client_that_leaves_stops_the_provider(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.left.clear()
    with client.responses.create(model="gpt-4o", input="hang", stream=True) as stream:
        for each in stream:
            if each.type == "response.output_text.delta":
                break
    assert upstream.left.wait(10)


def test_a_file_reaches_the_provider_and_is_kept_with_the_conversation(
    client: openai.OpenAI, upstream: Upstream
) -> None:
    pdf = "data:application/pdf;base64,JVBERi0="
    first = client.responses.create(
        model="gpt-4o",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_file", "file_data": pdf, "filename": "a.pdf"},
                    {"type": "input_text", "text": "what does it say?"},
                ],
            }
        ],
    )
    client.responses.create(model="gpt-4o", previous_response_id=first.id, input="and else?")
    asked = upstream.seen[-1]["messages"]
    assert len(asked) == 3
    file = {"type": "file", "file": {"filename": "a.pdf", "file_data": pdf}}
    assert asked[0]["content"][0] == file


def test_what_codex_tells_of_its_sessions_reaches_no_provider(
    client: openai.OpenAI, upstream: Upstream
) -> None:
    """As a chat it would be refused: OpenAI knows the field in its own responses only."""
    extra = {"client_metadata": {"session_id": "s"}}
    client.responses.create(model="gpt-4o", input="one", extra_body=extra)
    assert not {"client_metadata"} & set(upstream.seen[-1])


def test_what_a_provider_says_is_told_in_its_own_words(client: openai.OpenAI) -> None:
    words = "messages: max_completion_tokens=1 is wrong"
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model="gpt-4o", input=f"fail 400 {words}", stream=stream)
        assert caught.value.body["message"] == words  # type: ignore[index]
        assert caught.value.param == "input", "what the caller has called so"


def test_pages_that_are_cited_are_annotations_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.responses.create(model="gpt-4o", input="cite one two")
    with client.responses.stream(model="gpt-4o", input="cite one two") as stream:
        added = [each for each in stream if each.type == "response.output_text.annotation.added"]
        last = stream.get_final_response()
    assert [each.annotation_index for each in added] == [0, 1, 2]
    for found in (whole, last):
        (item,) = found.output
        assert item.type == "message"
        (part,) = item.content
        assert part.type == "output_text"
        pages = [each for each in part.annotations if each.type == "url_citation"]
        assert [part.text[each.start_index : each.end_index] for each in pages] == [
            *("cite", "one", "two"),
        ]
