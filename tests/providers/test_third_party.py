"""Our models against servers that others have written, over the loopback.

`llmock` breaks in every way that it is asked to; `aimock` speaks the surface of every provider;
and llama.cpp is the real thing, with a model of 100 kB that says nothing sensible.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import Request, urlopen

import attrs
import pytest
import trio

from orchestra.answers import Answer, Completion
from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.cohere.dialect import CohereDialect
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.codecs.ollama.dialect import OllamaDialect
from orchestra.codecs.openai.azure import AzureDialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import GROQ, LLAMA_CPP, MISTRAL, OPENROUTER, TOGETHER, XAI
from orchestra.errors import (
    CapabilityError,
    ContextLengthError,
    MalformedStreamError,
    ModelConnectionError,
    ModelError,
    ModelTimeoutError,
    OverloadedError,
    ProviderServerError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.protocols import Timeouts
from orchestra.providers.credentials import AwsKeys, Credentials, bearer
from orchestra.providers.network import open_transport
from orchestra.providers.remote import Endpoint, RemoteModel
from orchestra.secret import Secret
from orchestra.values import (
    ChatRequest,
    EmbedRequest,
    JsonOutput,
    Message,
    StopReason,
    TextDelta,
    Tool,
    ToolResult,
)
from tests.servers.gguf import CALL_TOKEN, CONTEXT_TOKENS, END_TOKEN, WIDTH, tiny_model
from tests.servers.processes import serving
from tests.servers.proxy import Proxy, proxied

T = TypeVar("T")
SEEN_WITHIN_S = 0.5
"""From our leaving to the server's seeing the connection closed, on a machine that is busy."""
CITY = {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]}
WEATHER = Tool("weather", "Tells the weather of a city", CITY)
KEY = bearer(Secret("key"))
AWS = AwsKeys(region="us-east-1", access_key_id="id", secret=Secret("secret"))


@attrs.frozen
class Place:
    """A surface of a server: where below its address, in which dialect, under which name."""

    path: str
    dialect: Dialect
    model: str = "a-model"
    credentials: Credentials = KEY

    def endpoint(self, url: str, timeouts: Timeouts = Timeouts()) -> Endpoint:
        return Endpoint(
            provider="third-party",
            model=self.model,
            base_url=url + self.path,
            dialect=self.dialect,
            credentials=self.credentials,
            timeouts=timeouts,
        )


AIMOCK = {
    "openai": Place("/v1", OpenAiDialect()),
    "openrouter": Place("/api/v1", OpenAiDialect(OPENROUTER)),
    "azure": Place("/openai/v1", AzureDialect()),
    "azure-classic": Place("/openai", AzureDialect(api_version="2024-10-21")),
    "anthropic": Place("/v1", AnthropicDialect()),
    "gemini": Place("/v1beta", GeminiDialect()),
    "vertex": Place("/v1/projects/p/locations/l", GeminiDialect(vertex=True)),
    "bedrock": Place("", BedrockDialect(), "anthropic.claude-3:0", AWS),
    "cohere": Place("/v2", CohereDialect()),
    "ollama": Place("/api", OllamaDialect()),
}
LLMOCK = {
    "openai": Place("/v1", OpenAiDialect()),
    "anthropic": Place("/anthropic/v1", AnthropicDialect()),
    "gemini": Place("/gemini/v1beta", GeminiDialect()),
    "cohere": Place("/cohere/v2", CohereDialect()),
    "mistral": Place("/mistral/v1", OpenAiDialect(MISTRAL)),
    "groq": Place("/groq/openai/v1", OpenAiDialect(GROQ)),
    "together": Place("/together/v1", OpenAiDialect(TOGETHER)),
    "xai": Place("/xai/v1", OpenAiDialect(XAI)),
}
LLAMA = Place("/v1", OpenAiDialect(LLAMA_CPP), "tiny")


@pytest.fixture(scope="module")
def aimock() -> Iterator[str]:
    with serving("aimock_server.mjs") as (url,):
        yield url


@pytest.fixture(scope="module")
def llmock() -> Iterator[str]:
    with serving("llmock_server.py") as (url,):
        yield url


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    model: Path = tmp_path_factory.mktemp("llama") / "tiny.gguf"
    model.write_bytes(tiny_model())
    with serving("llamacpp_server.py", str(model)) as urls:
        yield urls


@asynccontextmanager
async def reached(
    place: Place, url: str, timeouts: Timeouts = Timeouts()
) -> AsyncIterator[tuple[RemoteModel, Proxy]]:
    """A model there, reached through a proxy of ours that counts."""
    async with proxied(url) as proxy, open_transport(proxies={}) as transport:
        yield RemoteModel(place.endpoint(proxy.url, timeouts), transport), proxy


R = TypeVar("R")


def run(place: Place, url: str, ask: Callable[[RemoteModel, R], Awaitable[T]], request: R) -> T:
    """What a model there gives to a request."""

    async def main() -> T:
        async with reached(place, url) as (model, _):
            with trio.fail_after(30):
                return await ask(model, request)

    return trio.run(main)


def says(text: str, *more: Message, **options: Any) -> ChatRequest:
    return ChatRequest((Message("user", text), *more), **options)


async def streamed(model: RemoteModel, request: ChatRequest) -> Completion:
    answer = Answer()
    async with model.stream(request) as reply:
        while events := await reply.receive():
            for event in events:
                answer.add(event)
    return answer.completion()


async def both(model: RemoteModel, request: ChatRequest) -> tuple[Completion, Completion]:
    """The answer to a request in one piece, and as a stream."""
    return await model.complete(request), await streamed(model, request)


async def leaves(
    model: RemoteModel, proxy: Proxy, request: ChatRequest, *, by_cancel: bool
) -> float:
    """Seconds from our leaving an answer in its middle to the other side's seeing it."""
    left_s = float("inf")

    async def listen(started: trio.Event) -> None:
        async with model.stream(request) as reply:
            while not any(isinstance(event, TextDelta) for event in await reply.receive()):
                pass
            started.set()
            if by_cancel:
                await trio.sleep_forever()
            nonlocal left_s
            left_s = trio.current_time()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            started = trio.Event()
            nursery.start_soon(listen, started)
            await started.wait()
            if by_cancel:
                left_s = trio.current_time()
                nursery.cancel_scope.cancel()
        await proxy.left.wait()
    return proxy.left_at_s - left_s


# --- aimock: the surface of every provider -----------------------------------------------------


@pytest.mark.parametrize("place", AIMOCK.values(), ids=AIMOCK)
def test_every_dialect_completes_and_streams_the_same(aimock: str, place: Place) -> None:
    whole, stream = run(place, aimock, both, says("Hello"))
    assert whole.text == stream.text == "Hello! How can I help you today?"
    assert whole.stopped.reason is stream.stopped.reason is StopReason.END
    assert whole.stopped.raw == stream.stopped.raw


@pytest.mark.parametrize("place", AIMOCK.values(), ids=AIMOCK)
def test_every_dialect_calls_a_tool_and_takes_its_result(aimock: str, place: Place) -> None:
    request = says("weather", tools=(WEATHER,))
    whole, stream = run(place, aimock, both, request)
    for answer in (whole, stream):
        # aimock's Gemini stops by a reason that Gemini does not have
        assert (
            answer.stopped.reason is StopReason.TOOL_CALLS or answer.stopped.raw == "FUNCTION_CALL"
        )
        (call,) = answer.tool_calls
        assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Paris"})
        result = Message("tool", (ToolResult(call.id, call.name, "sunny"),))
        after = says("weather", answer.message, result, tools=(WEATHER,))
        told, told_streamed = run(place, aimock, both, after)
        assert told.text == told_streamed.text == "It is sunny in Paris."


EMBEDS = ("openai", "azure", "azure-classic", "cohere")
"""aimock answers Ollama's and Gemini's with what others' calls, those for one text, answer."""


@pytest.mark.parametrize("name", EMBEDS)
def test_every_dialect_embeds(aimock: str, name: str) -> None:
    request = EmbedRequest(("one", "two", "one"), "document")
    found = run(AIMOCK[name], aimock, RemoteModel.embed, request)
    first, second, third = found.vectors
    assert first == third != second
    assert len(first) > 100


@pytest.mark.parametrize("by_cancel", [False, True], ids=["left", "cancelled"])
@pytest.mark.parametrize("place", AIMOCK.values(), ids=AIMOCK)
def test_who_leaves_in_mid_stream_is_seen_to_leave_at_once(
    aimock: str, place: Place, by_cancel: bool
) -> None:
    async def main() -> float:
        async with reached(place, aimock) as (model, proxy):
            return await leaves(model, proxy, says("slowly"), by_cancel=by_cancel)

    assert trio.run(main) < SEEN_WITHIN_S


@pytest.mark.parametrize("place", AIMOCK.values(), ids=AIMOCK)
def test_a_stream_that_a_server_cuts_never_looks_complete(aimock: str, place: Place) -> None:
    with pytest.raises((TruncatedStreamError, ModelConnectionError)):
        run(place, aimock, streamed, says("cut"))


@pytest.mark.parametrize("place", AIMOCK.values(), ids=AIMOCK)
def test_every_dialect_waits_as_long_as_it_was_told(aimock: str, place: Place) -> None:
    for ask in (RemoteModel.complete, streamed):
        with pytest.raises(RateLimitError, match="Too much at once") as caught:
            run(place, aimock, ask, says("busy"))
        assert (caught.value.status, caught.value.retry_after_s) == (429, 7)
        assert caught.value.retryable


@pytest.mark.parametrize("place", AIMOCK.values(), ids=AIMOCK)
def test_calls_after_each_other_share_a_connection(aimock: str, place: Place) -> None:
    async def main() -> int:
        async with reached(place, aimock) as (model, proxy):
            for _ in range(3):
                await model.complete(says("Hello"))
            return proxy.connections

    assert trio.run(main) == 1


# --- llmock: everything that can go wrong ---------------------------------------------------------


def plan(url: str, *behaviors: dict[str, Any]) -> None:
    """Tell llmock how to behave to the next who asks; only that, whatever was planned before."""
    for path, body in (("reset", {}), ("scenario", {"behaviors": behaviors})):
        urlopen(Request(f"{url}/_llmock/{path}", json.dumps(body).encode())).close()


@pytest.mark.parametrize("place", LLMOCK.values(), ids=LLMOCK)
def test_llmock_hears_and_is_heard(llmock: str, place: Place) -> None:
    plan(llmock, {"type": "reply", "text": "It is sunny.", "times": 2})
    whole, stream = run(place, llmock, both, says("Hello"))
    assert whole.text == stream.text == "It is sunny."
    assert whole.usage is not None
    assert whole.usage.output_tokens > 0
    if stream.usage is not None:  # of Mistral we need not ask it, but llmock wants to be asked
        assert stream.usage == whole.usage


@pytest.mark.parametrize("place", LLMOCK.values(), ids=LLMOCK)
def test_llmock_calls_tools(llmock: str, place: Place) -> None:
    calls = [{"name": "weather", "arguments": {"city": "Paris"}}]
    plan(llmock, {"type": "reply", "tool_calls": calls, "times": 2})
    request = says("weather?", tools=(WEATHER,))
    for answer in run(place, llmock, both, request):
        (call,) = answer.tool_calls
        assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Paris"})
        assert call.id
        assert answer.stopped.reason is StopReason.TOOL_CALLS


@pytest.mark.parametrize("place", LLMOCK.values(), ids=LLMOCK)
@pytest.mark.parametrize(
    ("behavior", "kind", "wait_s"),
    [
        ({"status": 429, "retry_after": 7}, RateLimitError, 7),
        ({"status": 429, "retry_after": 0.5}, RateLimitError, 0.5),
        ({"status": 529, "retry_after": 2}, (OverloadedError, ProviderServerError), 2),
        ({"status": 500}, ProviderServerError, None),
    ],
)
def test_a_fault_is_told_by_what_can_be_done_about_it(
    llmock: str,
    place: Place,
    behavior: dict[str, Any],
    kind: type[ModelError] | tuple[type[ModelError], ...],
    wait_s: float | None,
) -> None:
    for ask in (RemoteModel.complete, streamed):
        plan(llmock, {"type": "fail", **behavior})
        with pytest.raises(kind) as caught:
            run(place, llmock, ask, says("Hello"))
        assert caught.value.status == behavior["status"]
        assert wait_s is None or caught.value.retry_after_s == wait_s
        assert caught.value.retryable
        assert (caught.value.provider, caught.value.model) == ("third-party", "a-model")


@pytest.mark.parametrize("place", LLMOCK.values(), ids=LLMOCK)
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("disconnect", ModelConnectionError),
        ("truncate", TruncatedStreamError),
        ("malformed", MalformedStreamError),
    ],
)
def test_a_broken_stream_is_an_error_and_says_so(
    llmock: str, place: Place, fault: str, kind: type[ModelError]
) -> None:
    plan(llmock, {"type": "stream_fault", "kind": fault, "after_chunks": 3})
    with pytest.raises(kind) as caught:
        run(place, llmock, streamed, says("Hello"))
    assert type(caught.value) is kind
    assert caught.value.retryable


WORDS = "one two three four five six seven eight nine ten"
STALL = {"type": "stream_fault", "kind": "stall", "after_chunks": 5, "stall_seconds": 30}
"""Anthropic's first words come in its fourth event."""


@pytest.mark.parametrize("place", LLMOCK.values(), ids=LLMOCK)
def test_a_stream_that_hangs_is_given_up(llmock: str, place: Place) -> None:
    async def main() -> None:
        async with reached(place, llmock, Timeouts(idle_s=0.1)) as (model, proxy):
            with trio.fail_after(10), pytest.raises(ModelTimeoutError) as caught:
                await streamed(model, says("Hello"))
            assert caught.value.code == "idle_s"
            await proxy.left.wait()

    plan(llmock, {"type": "reply", "text": WORDS}, STALL)
    trio.run(main)


@pytest.mark.parametrize("by_cancel", [False, True], ids=["left", "cancelled"])
@pytest.mark.parametrize("place", LLMOCK.values(), ids=LLMOCK)
def test_who_leaves_a_hanging_stream_is_seen_to_leave_at_once(
    llmock: str, place: Place, by_cancel: bool
) -> None:
    async def main() -> float:
        async with reached(place, llmock) as (model, proxy):
            return await leaves(model, proxy, says("Hello"), by_cancel=by_cancel)

    plan(llmock, {"type": "reply", "text": WORDS}, STALL)
    assert trio.run(main) < SEEN_WITHIN_S


def test_llmock_embeds(llmock: str) -> None:
    request = EmbedRequest(("one", "two", "one"))
    found = run(LLMOCK["openai"], llmock, RemoteModel.embed, request)
    first, second, third = found.vectors
    assert first == third != second
    assert len(first) == 1536
    with pytest.raises(CapabilityError):
        run(LLMOCK["anthropic"], llmock, RemoteModel.embed, request)


# --- llama.cpp: the real thing ----------------------------------------------------------------------

GREEDY: dict[str, Any] = {"temperature": 0.0, "output_tokens_max": 12}


def test_llama_says_the_same_in_one_piece_and_as_a_stream(llama: list[str]) -> None:
    whole, stream = run(LLAMA, llama[0], both, says("Hello", **GREEDY))
    assert whole.text == stream.text
    assert len(whole.text.split()) == 12
    assert whole.stopped.reason is stream.stopped.reason is StopReason.LENGTH
    assert whole.usage is not None
    assert (whole.usage.output_tokens, whole.usage.input_tokens > 12) == (12, True)
    assert stream.usage is not None
    assert attrs.evolve(stream.usage, cached_input_tokens=0) == attrs.evolve(
        whole.usage, cached_input_tokens=0
    )


def test_llama_calls_a_tool(llama: list[str]) -> None:
    bias = {str(CALL_TOKEN): 100, str(END_TOKEN): 200}  # call, and then stop if you may
    request = says(
        "weather?",
        temperature=0.0,
        output_tokens_max=200,
        tools=(WEATHER,),
        tool_choice="required",
        extras={"llama-cpp": {"logit_bias": bias}},
    )
    for answer in run(LLAMA, llama[0], both, request):
        (call,) = answer.tool_calls
        assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Paris"})
        assert answer.stopped.reason is StopReason.TOOL_CALLS
        result = Message("tool", (ToolResult(call.id, call.name, "sunny"),))
        after = says("weather?", answer.message, result, **GREEDY)
        assert run(LLAMA, llama[0], RemoteModel.complete, after).text


def test_llama_keeps_to_a_schema(llama: list[str]) -> None:
    request = says("where?", temperature=0.0, output_tokens_max=100, output=JsonOutput(CITY))
    for answer in run(LLAMA, llama[0], both, request):
        assert json.loads(answer.text) == {"city": "Paris"}


def test_llama_embeds(llama: list[str]) -> None:
    request = EmbedRequest(("one", "two", "one"))
    found = run(LLAMA, llama[1], RemoteModel.embed, request)
    first, second, third = map(list, found.vectors)
    assert first == pytest.approx(third, abs=1e-5)  # they need not stand in the same batch
    assert first != pytest.approx(second, abs=1e-2)
    assert len(first) == WIDTH
    assert sum(number * number for number in first) == pytest.approx(1, abs=1e-5)
    assert found.usage is not None
    assert found.usage.input_tokens > 0


def test_llama_says_when_a_prompt_is_too_long(llama: list[str]) -> None:
    request = says("x" * CONTEXT_TOKENS)
    with pytest.raises(ContextLengthError):
        run(LLAMA, llama[0], RemoteModel.complete, request)


def test_llama_says_that_it_cannot_embed(llama: list[str]) -> None:
    with pytest.raises(ModelError, match="does not support embeddings") as caught:
        run(LLAMA, llama[0], RemoteModel.embed, EmbedRequest(("x",)))
    assert caught.value.code == "not_supported_error"


@pytest.mark.parametrize("by_cancel", [False, True], ids=["left", "cancelled"])
def test_llama_stops_speaking_when_nobody_listens(llama: list[str], by_cancel: bool) -> None:
    request = says("Hello", temperature=0.0, output_tokens_max=30_000)

    def speaking() -> bool:
        with urlopen(f"{llama[0]}/slots") as slots:
            return any(slot["is_processing"] for slot in json.load(slots))

    async def main() -> float:
        async with reached(LLAMA, llama[0]) as (model, proxy):
            seen_s = await leaves(model, proxy, request, by_cancel=by_cancel)
            with trio.fail_after(5):  # it would have spoken for half a minute
                while await trio.to_thread.run_sync(speaking):
                    pass
            return seen_s

    assert trio.run(main) < SEEN_WITHIN_S
