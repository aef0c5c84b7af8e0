"""OpenAI's own client for Python, unchanged but for its base URL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import (
    ChatCompletionChunk,
    ChatCompletionMessage,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionToolParam,
)
from pydantic import BaseModel

from tests.clients.upstream import Upstream

PDF = "data:application/pdf;base64,JVBERi0="
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def called(message: ChatCompletionMessage) -> list[ChatCompletionMessageFunctionToolCall]:
    calls = message.tool_calls or ()
    return [each for each in calls if isinstance(each, ChatCompletionMessageFunctionToolCall)]


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def client(ours: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="any", base_url=ours, max_retries=0) as vendor:
        yield vendor


def test_models_are_listed_and_found_by_ids_with_slashes(client: openai.OpenAI) -> None:
    ids = [each.id for each in client.models.list()]
    assert {"gpt-4o", "team/gpt-4o-mini", "either", "shout", "history"} <= set(ids)
    assert client.models.retrieve("team/gpt-4o-mini").id == "team/gpt-4o-mini"
    with pytest.raises(openai.NotFoundError, match="'nobody' does not exist") as caught:
        client.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("model", ["gpt-4o", "team/gpt-4o-mini", "either", "shout", "everything"])
def test_an_answer_is_the_same_whole_and_streamed(client: openai.OpenAI, model: str) -> None:
    whole = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "one two three"}]
    )
    assert whole.choices[0].message.content == "one two three"
    assert (whole.model, whole.choices[0].finish_reason) == (model, "stop")
    chunks = list(
        client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "one two three"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(texts) == "one two three"
    assert len([text for text in texts if text]) == 3, "as it was said, word by word"
    assert chunks[-2].choices[0].finish_reason == "stop"
    usage = chunks[-1].usage
    assert usage is not None
    assert whole.usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (5, 2)
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (5, 2)


def test_what_openai_has_no_word_for_is_in_headers_and_in_the_usage(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="either", messages=[{"role": "user", "content": "hello"}]
    )
    assert raw.headers["x-orchestra-model"] == "gpt-4o"
    cost = int(raw.headers["x-orchestra-cost-nanodollars"])
    assert cost == 5 * 2_500 + 2 * 10_000
    assert float(raw.headers["x-orchestra-time-to-first-token-ms"]) > 0
    usage = raw.parse().usage
    assert usage is not None
    told = (usage.model_extra or {})["orchestra"]
    assert told["run_id"] == raw.headers["x-orchestra-run-id"]
    assert (told["model"], told["cost_nanodollars"]) == ("gpt-4o", cost)
    with client.chat.completions.with_streaming_response.create(
        model="either", messages=[{"role": "user", "content": "hello"}], stream=True
    ) as streamed:
        assert streamed.headers["x-orchestra-model"] == "gpt-4o"
        assert streamed.headers["x-request-id"]
        assert float(streamed.headers["x-orchestra-time-to-first-token-ms"]) > 0


def test_several_answers_and_how_likely_their_tokens_were(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "a b"}],
        n=3,
        logprobs=True,
        top_logprobs=2,
    )
    assert [(c.index, c.message.content) for c in found.choices] == [(i, "a b") for i in range(3)]
    likely = found.choices[2].logprobs
    assert likely is not None
    assert [(each.token, each.logprob) for each in likely.content or ()] == [
        ("a ", -0.5),
        ("b", -0.5),
    ]
    assert len((likely.content or [])[0].top_logprobs) == 2
    assert found.usage is not None
    assert found.usage.prompt_tokens == 15, "each answer is a call, and is paid for"
    with client.chat.completions.stream(
        model="gpt-4o", messages=[{"role": "user", "content": "a b"}], n=2, logprobs=True
    ) as stream:
        whole = stream.get_final_completion()
    assert [c.message.content for c in whole.choices] == ["a b", "a b"]
    assert [len((c.logprobs and c.logprobs.content) or ()) for c in whole.choices] == [2, 2]


def test_tools_are_called_and_their_results_sent_back(client: openai.OpenAI) -> None:
    asked = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "weather?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )
    (call,) = called(asked.choices[0].message)
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "weather",
        {"city": "Paris"},
    )
    assert asked.choices[0].finish_reason == "tool_calls"
    with client.chat.completions.stream(
        model="gpt-4o", messages=[{"role": "user", "content": "weather?"}], tools=[WEATHER]
    ) as stream:
        streamed = stream.get_final_completion().choices[0].message
    assert [c.function.arguments for c in called(streamed)] == ['{"city": "Paris"}']
    answered = client.chat.completions.create(
        model="gpt-4o",
        messages=[
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "tool_calls": [call.to_dict()]},  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        ],
        tools=[WEATHER],
    )
    assert answered.choices[0].message.content == "sunny"


def test_an_answer_fits_its_schema(client: openai.OpenAI) -> None:
    found = client.chat.completions.parse(
        model="gpt-4o", messages=[{"role": "user", "content": "who?"}], response_format=Person
    )
    assert found.choices[0].message.parsed == Person(name="Ada", age=36)


def test_what_we_have_no_field_for_reaches_the_provider(
    client: openai.OpenAI, upstream: Upstream
) -> None:
    found = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "hi"}],
        max_completion_tokens=9,
        user="ada",
        service_tier="flex",
        store=True,
        metadata={"a": "b"},
        extra_body={"min_p": 0.1, "orchestra": {"conversation": "c"}},
    )
    sent = upstream.seen[-1]
    assert (sent["user"], sent["service_tier"], sent["min_p"]) == ("ada", "flex", 0.1)
    assert sent["max_completion_tokens"] == 9
    assert not {"store", "metadata", "orchestra"} & sent.keys(), "what is ours is not told"
    assert (found.service_tier, found.system_fingerprint) == ("flex", "fp_1")
    chunks = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "hi"}],
        service_tier="flex",
        stream=True,
    )
    assert {(each.service_tier, each.system_fingerprint) for each in chunks} == {("flex", "fp_1")}


def test_embeddings_come_in_base64_and_as_numbers(client: openai.OpenAI) -> None:
    model = "text-embedding-3-small"
    by_default = client.embeddings.create(model=model, input=["a", "bcd"])
    assert [each.embedding for each in by_default.data] == [[1.0] * 4, [3.0] * 4]
    numbers = client.embeddings.create(
        model=model, input="bcd", encoding_format="float", dimensions=2
    )
    assert numbers.data[0].embedding == [3.0, 3.0]
    assert (by_default.usage.prompt_tokens, by_default.model) == (3, model)
    with pytest.raises(openai.BadRequestError, match="list of tokens") as caught:
        client.embeddings.create(model=model, input=[1, 2])
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        ("fail 400", openai.BadRequestError, "bad_luck"),
        ("fail 401", openai.InternalServerError, "provider_key"),
        ("fail 429", openai.RateLimitError, "provider_rate_limited"),
        ("fail 500", openai.InternalServerError, "server_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_is_the_exception_that_it_always_is(
    client: openai.OpenAI, said: str, kind: type[openai.APIStatusError], code: str, stream: bool
) -> None:
    """Also of a stream, which has not begun: the head waits for the first word."""
    with pytest.raises(kind) as caught:
        client.chat.completions.create(
            model="team/gpt-4o-mini", messages=[{"role": "user", "content": said}], stream=stream
        )
    assert caught.value.code == code


def test_what_cannot_be_asked_is_refused_with_its_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="history", messages=[{"role": "user", "content": "a"}], tools=[WEATHER]
        )
    assert (caught.value.param, caught.value.type) == ("tools", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "a"}], n=99
        )
    assert caught.value.param == "n"


@pytest.mark.parametrize("said", ["break", "cut"])
def test_a_broken_stream_never_looks_complete(client: openai.OpenAI, said: str) -> None:
    stream = client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": said}], stream=True
    )
    heard: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError):
        heard.extend(stream)
    assert "".join(c.choices[0].delta.content or "" for c in heard) == said
    assert not [c for c in heard if c.choices[0].finish_reason]


def test_a_client_that_leaves_stops_the_provider(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.left.clear()
    stream = client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "hang"}], stream=True
    )
    assert "hang" in [
        chunk.choices[0].delta.content for _, chunk in zip(range(2), stream, strict=False)
    ]
    stream.close()
    assert upstream.left.wait(10)


def test_a_pipeline_is_given_the_conversation(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="history",
        messages=[{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}],
    )
    assert found.choices[0].message.content == "2 messages, the last of user"


@pytest.mark.parametrize("model", ["gpt-4o", "everything"])
def test_a_file_reaches_the_provider(client: openai.OpenAI, upstream: Upstream, model: str) -> None:
    """Through a model, and through a pipeline that is spoken with."""
    client.chat.completions.create(
        model=model,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
                    {"type": "text", "text": f"what does it say to {model}?"},
                ],
            }
        ],
    )
    (turn,) = upstream.seen[-1]["messages"]
    assert turn["content"][0] == {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}


def test_a_file_that_was_uploaded_elsewhere_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="send the file itself, as file_data"):
        client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": "f-1"}}]}],
        )
    with pytest.raises(openai.BadRequestError, match="the last user message has a file"):
        client.chat.completions.create(
            model="shout",
            messages=[{"role": "user", "content": [{"type": "file", "file": {"file_data": PDF}}]}],
        )


def test_a_pipeline_hears_how_to_answer_by_inputs_of_that_name(
    client: openai.OpenAI, upstream: Upstream
) -> None:
    def sent(**how: Any) -> dict[str, Any]:
        client.chat.completions.create(
            model="heard", messages=[{"role": "user", "content": "Hi"}], **how
        )
        fields = ("temperature", "max_completion_tokens", "stop", "reasoning_effort", "seed")
        return {key: upstream.seen[-1][key] for key in fields if key in upstream.seen[-1]}

    how = {"temperature": 0.5, "max_completion_tokens": 7, "reasoning_effort": "low"}
    assert sent(**how, stop=["END"], seed=3) == {**how, "stop": ["END"]}, "it takes no seed"
    assert sent() == {"temperature": 1.0}, "its own default"


def test_pages_that_are_cited_are_annotations_whole_and_streamed(client: openai.OpenAI) -> None:
    """Its stream puts lists together by an index, and fails on the second list without one."""
    asked: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "cite one two"}]}
    whole = client.chat.completions.create(**asked).choices[0].message
    with client.chat.completions.stream(**asked) as stream:
        last = stream.get_final_completion().choices[0].message
    for found in (whole, last):
        cited = [each.url_citation for each in found.annotations or ()]
        assert [each.url for each in cited] == [f"https://{at}.test/" for at in (0, 5, 9)]
        said = [str(found.content)[each.start_index : each.end_index] for each in cited]
        assert said == ["cite", "one", "two"]
