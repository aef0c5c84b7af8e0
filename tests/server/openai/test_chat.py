"""OpenAI's API on the wire: shapes, scopes, heads that wait, and clients that leave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

from orchestra.access.principal import Principal, Scopes
from orchestra.accounts import Caller
from orchestra.codecs.serving.allowlist import Allowlist
from orchestra.engine.engine import Engine, open_engine
from orchestra.errors import (
    AuthenticationError,
    BudgetExceededError,
    LimitReachedError,
    ServeError,
)
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.rules.policy import Limits
from orchestra.graph.steps import step
from orchestra.protocols import Stream
from orchestra.server.app import create_app
from orchestra.server.front.layers import OPEN, Admission
from orchestra.server.models.paths import is_openai, shaped_at
from orchestra.server.models.shapes import as_openai, as_served
from orchestra.server.responses.caller_problems import (
    key_missing,
    key_refused,
    your_budget,
    your_rate,
)
from orchestra.server.settings import Settings
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import (
    Began,
    ChatRequest,
    Json,
    Message,
    Purpose,
    Stopped,
    StopReason,
    TextDelta,
    Vector,
)
from tests.server.wire import House, Reply, open_house

KEY = "ork_key"
TOLD = {"service_tier": "flex", "system_fingerprint": "fp_1"}
HANGING = ScriptedModel(((0.0, TextDelta("a")), (999.0, TextDelta("b"))))
SILENT = ScriptedModel(((1.0, TextDelta("late")), (0.0, Stopped(StopReason.END))))
MODELS: Mapping[str, ScriptedModel] = {
    "m": ScriptedModel.saying("one ", "two"),
    "tiered": ScriptedModel(
        (
            (0.0, Began("theirs", "gpt", TOLD)),
            (0.0, TextDelta("Hi")),
            (0.0, Stopped(StopReason.END)),
        )
    ),
    "team/m": ScriptedModel.saying("slash"),
    "hanging": HANGING,
    "mute": ScriptedModel(((999.0, TextDelta("late")),)),
    "silent": SILENT,
    "silent-broken": ScriptedModel(((1.0, TextDelta("")),), AuthenticationError("our key")),
    "broken": ScriptedModel((), AuthenticationError("our key")),
}


@step
async def breaking(request: object) -> str:
    raise KeyError("sk-123, the key in the cupboard")


@step
async def waits(request: object) -> str:
    await trio.sleep_forever()


@step
async def echoed(messages: list[Message]) -> AsyncIterator[str]:
    yield messages[-1].text


@step
async def joined(request: ChatRequest, other: str) -> str:
    return request.messages[-1].text + other


@pipeline
def chat(messages: list[Message]) -> Stream[str]:
    """Say it back."""
    return echoed(messages)


@pipeline
def bad(request: ChatRequest) -> str:
    """Fail with what is nobody's business."""
    return breaking(request)


@pipeline
def stuck(request: str) -> str:
    """Never end."""
    return waits(request)


@step
async def added(a: int, b: int) -> int:
    return a + b


@pipeline
def plus(a: int, b: int = 1) -> int:
    """No chat."""
    return added(a, b)


PIPELINES: dict[str, Pipeline[..., Any]] = {"chat": chat, "bad": bad, "plus": plus}


class Lengths:
    """An embedder whose vectors tell how long their texts are."""

    dimensions = 2

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        del purpose
        return [Vector.of([float(len(each)), 0.0]) for each in texts]


class OneKey:
    """A keyring with one key."""

    def __init__(self, scopes: Scopes) -> None:
        self._principal = Principal(Caller("acme"), scopes)

    async def authenticate(self, token: str) -> Principal:
        assert token == KEY
        return self._principal


@asynccontextmanager
async def house(
    settings: Settings | None = None, limits: Limits | None = None, admission: Admission = OPEN
) -> AsyncIterator[tuple[House, Engine]]:
    settings = settings or Settings()
    async with open_engine(
        World(models=MODELS, embedders={"lengths": Lengths()}), limits=limits
    ) as engine:
        app = create_app(engine, PIPELINES, settings, admission)
        async with open_house(app, settings) as opened:
            yield opened, engine


def asking(head: str, body: object = None, **options: Any) -> Reply:
    async def main() -> Reply:
        async with house(**options) as (opened, _):
            raw = b"" if body is None else msgspec.json.encode(body)
            return await (await opened.connect()).ask(head, raw)

    return trio.run(main)


POST = "POST /v1/chat/completions HTTP/1.1\nContent-Type: application/json"


def chatting(model: str, **fields: Any) -> Reply:
    options = fields.pop("options", {})
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return asking(POST, body, **options)


def error(reply: Reply) -> tuple[int, object, object]:
    found: Json = reply.json["error"]  # type: ignore[assignment]
    assert found.keys() == {"message", "type", "param", "code"}
    return reply.status, found["code"], found["param"]


def frames(reply: Reply) -> list[Json]:
    found = [each for each in reply.body.decode().split("\n\n") if each]
    lines = [line for each in found for line in each.split("\n") if line.startswith("data: {")]
    return [msgspec.json.decode(line.removeprefix("data: ")) for line in lines]


# --- shapes ------------------------------------------------------------------------------------


def test_whatever_is_wrong_is_told_in_openais_shape() -> None:
    assert error(asking("GET /v1/models/nobody HTTP/1.1")) == (404, "model_not_found", "model")
    assert error(asking("PUT /v1/models HTTP/1.1")) == (405, "method_not_allowed", None)
    assert error(asking("PUT /v1/chat/completions HTTP/1.1"))[0] == 405
    assert error(asking("GET /v1/chat/other HTTP/1.1")) == (404, "not_found", None)
    assert error(asking("POST /v1/embeddings HTTP/1.1", {})) == (415, "bad_media_type", None)
    assert error(asking(POST.replace("application", "text"), {})) == (415, "bad_media_type", None)
    assert error(asking(POST, {"model": "m"})) == (400, "invalid_value", "messages")
    assert error(chatting("nobody")) == (404, "model_not_found", "model")
    assert error(chatting("m", n=0)) == (400, "invalid_value", "n")
    assert error(chatting("chat", n=2)) == (400, "invalid_value", "n")
    small = {"options": {"settings": Settings(body_limit_bytes=10)}}
    assert error(chatting("m", **small)) == (413, "body_too_large", None)
    full = {"options": {"limits": Limits(runs=1)}}
    assert error(chatting("broken", **full))[0] == 502
    embed = "POST /v1/embeddings HTTP/1.1\nContent-Type: application/json"
    assert error(asking(embed, {"model": "chat", "input": "a"})) == (400, "invalid_value", "model")
    assert error(asking(embed, {"model": "nobody", "input": "a"}))[:2] == (404, "model_not_found")
    assert error(asking(embed, {"model": "m", "input": "a"})) == (
        400,
        "unsupported_parameter",
        None,
    )
    assert error(asking(embed, {"model": "m"})) == (400, "invalid_value", "input")


@pytest.mark.parametrize(
    "path",
    ["/v1/realtime", "/v1/completions", "/v1/files/f-1", "/v1/threads", "/chat/completions"],
)
def test_what_openais_clients_ask_in_vain_is_told_in_their_shape_with_what_there_is(
    path: str,
) -> None:
    """They show nothing of a body in another form."""
    reply = asking(f"POST {path} HTTP/1.1\nContent-Type: application/json", {})
    assert error(reply) == (404, "not_found", None)
    assert b"POST /v1/chat/completions" in reply.body


def test_a_server_that_is_full_says_so_as_openai_would() -> None:
    async def main() -> Reply:
        async with house(limits=Limits(runs=1)) as (opened, engine):
            run = engine.start(stuck, {"request": "first"})
            body = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}
            reply = await (await opened.connect()).ask(POST, msgspec.json.encode(body))
            run.cancel("it was there")
            return reply

    reply = trio.run(main)
    assert error(reply)[0] == 503
    assert int(reply.headers["retry-after"]) >= 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("by_client", [False, True])
def test_what_a_client_has_cancelled_is_not_tried_again(*, stream: bool, by_client: bool) -> None:
    """OpenAI's clients try a 503 again, which is right if the server stops."""

    async def main() -> Reply:
        async with house() as (opened, engine):
            client, other = await opened.connect(), await opened.connect()
            messages = [{"role": "user", "content": "Hi"}]
            body = {"model": "mute", "messages": messages, "stream": stream}
            await client.send(POST, msgspec.json.encode(body))
            while not engine.runs:  # noqa: ASYNC110 - another task starts it
                await trio.lowlevel.checkpoint()
            (run,) = engine.runs.values()
            if by_client:
                await other.ask(f"DELETE /v1/runs/{run.id} HTTP/1.1")
            else:
                run.cancel("the server stops")
            return await client.reply()

    reply = trio.run(main)
    assert error(reply) == (503, "run_cancelled", None)
    assert reply.headers.get("x-should-retry") == ("false" if by_client else None)


def test_a_compressed_body_is_told_that_it_is_not_read() -> None:
    reply = asking(f"{POST}\nContent-Encoding: gzip", {})
    assert error(reply) == (415, "bad_content_encoding", None)
    assert reply.headers["accept-encoding"] == "identity"


def test_a_body_that_is_no_json_is_told_that_it_has_to_be() -> None:
    assert b"multipart" not in asking("POST /v1/embeddings HTTP/1.1", {}).body


def test_a_pipeline_that_is_not_offered_is_told_at_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with open_engine(World(models={"chat": MODELS["m"]})) as engine:
            create_app(engine, PIPELINES)

    trio.run(main)
    assert "pipeline 'chat' is not offered" in caplog.text


def test_what_is_wrong_elsewhere_stays_a_problem() -> None:
    assert asking("GET /v1/nothing HTTP/1.1").headers["content-type"] == "application/problem+json"
    assert asking("GET /v1/modelsx HTTP/1.1").headers["content-type"] == "application/problem+json"
    assert [is_openai(path) for path in ("/v1/models", "/v1/models/a/b", "/v1/chat")] == [True] * 3


@pytest.mark.parametrize(
    ("problem", "status", "code"),
    [
        (key_missing(), 401, "invalid_api_key"),
        (key_refused("expired"), 401, "invalid_api_key"),
        (key_refused("unknown"), 401, "invalid_api_key"),
        (your_rate(LimitReachedError("slow", retry_after_s=2.0)), 429, "rate_limit_exceeded"),
        (your_budget(BudgetExceededError("spent")), 429, "insufficient_quota"),
    ],
)
def test_what_is_wrong_with_a_caller_is_told_in_openais_words(
    problem: Any, status: int, code: str
) -> None:
    found = as_openai(as_served(problem))
    assert (found.status, msgspec.json.decode(found.encode())["error"]["code"]) == (status, code)
    assert set(problem.headers) <= set(found.headers), "when to come again, and with what"
    assert shaped_at("/v1/models", problem) == found
    assert shaped_at("/v1/runs", problem) == problem


def test_what_is_nobodys_business_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    for stream in (False, True):
        reply = chatting("bad", stream=stream)
        assert error(reply) == (500, "run_failed", None)
        assert b"sk-123" not in reply.body
        assert reply.headers["x-orchestra-run-id"]
    assert "cupboard" in caplog.text


# --- who may -----------------------------------------------------------------------------------


def test_only_what_a_key_may_ask_is_there_for_it() -> None:
    scopes = Scopes(pipelines=frozenset({"chat"}), models=frozenset({"team/m"}))
    admission = Admission(keyring=OneKey(scopes))  # type: ignore[arg-type]
    bearer = f"\nAuthorization: Bearer {KEY}"
    listed = asking(f"GET /v1/models HTTP/1.1{bearer}", admission=admission).json
    assert [each["id"] for each in listed["data"]] == ["team/m", "chat"]  # type: ignore[attr-defined]
    one = asking(f"GET /v1/models/team/m HTTP/1.1{bearer}", admission=admission).json
    assert (one["id"], one["object"], one["orchestra"]) == ("team/m", "model", {"kind": "model"})
    kept = asking(f"DELETE /v1/models/team/m HTTP/1.1{bearer}", admission=admission)
    assert kept.json == {"id": "team/m", "object": "model", "deleted": False}
    unseen = asking(f"DELETE /v1/models/m HTTP/1.1{bearer}", admission=admission)
    assert error(unseen)[:2] == (404, "model_not_found")
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    assert error(asking(POST + bearer, body, admission=admission))[:2] == (404, "model_not_found")
    assert asking(POST + bearer, {**body, "model": "chat"}, admission=admission).status == 200
    assert error(asking(POST, body, admission=admission)) == (401, "invalid_api_key", None)


def test_a_pipeline_that_is_no_chat_is_told_how_it_is_asked() -> None:
    """To those who may run it; to others there is none."""
    reply = chatting("plus")
    assert error(reply) == (404, "model_not_found", "model")
    assert b"it takes a, b, and does not answer a chat" in reply.body
    assert b"run it with POST /v1/pipelines/plus/runs" in reply.body
    others = Admission(keyring=OneKey(Scopes(frozenset({"chat"}))))  # type: ignore[arg-type]
    body = {"model": "plus", "messages": [{"role": "user", "content": "Hi"}]}
    unseen = asking(f"{POST}\nAuthorization: Bearer {KEY}", body, admission=others)
    assert b"does not exist" in unseen.body


# --- answers -----------------------------------------------------------------------------------


def test_a_model_and_a_pipeline_answer_alike() -> None:
    for model, text in (("m", "one two"), ("team/m", "slash"), ("chat", "Hi")):
        whole = chatting(model).json
        choices: Any = whole["choices"]
        (choice,) = choices
        assert choice["message"]["content"] == text
        assert whole["id"] == f"chatcmpl-{whole['usage']['orchestra']['run_id']}"  # type: ignore[index]
        chunks = frames(chatting(model, stream=True))
        said = [each["choices"][0]["delta"].get("content", "") for each in chunks]
        assert "".join(said) == text


def test_what_a_provider_tells_of_who_answers_is_passed_on() -> None:
    """In whole answers and in every chunk; where it told nothing, neither do we."""
    for model, told in (("tiered", TOLD), ("m", {})):
        answers = [chatting(model).json, *frames(chatting(model, stream=True))]
        for each in answers:
            assert {name: each[name] for name in TOLD if name in each} == told


def test_vectors_are_made_of_each_text_in_order_and_by_nobody_who_speaks() -> None:
    embed = "POST /v1/embeddings HTTP/1.1\nContent-Type: application/json"
    reply = asking(embed, {"model": "lengths", "input": ["a", "abc"]})
    data: Any = reply.json["data"]
    assert [each["embedding"] for each in data] == [[1.0, 0.0], [3.0, 0.0]]
    assert [each["index"] for each in data] == [0, 1]
    assert reply.json["model"] == "lengths"
    assert reply.headers["x-orchestra-run-id"]
    packed: Any = asking(embed, {"model": "lengths", "input": "abc", "encoding_format": "base64"})
    assert packed.json["data"][0]["embedding"] == "AABAQAAAAAA="
    assert error(chatting("lengths")) == (400, "invalid_value", "model")


def test_several_answers_are_told_apart_by_their_index() -> None:
    whole = chatting("m", n=3).json
    assert [each["index"] for each in whole["choices"]] == [0, 1, 2]  # type: ignore[attr-defined]
    texts = ["", ""]
    for each in frames(chatting("m", n=2, stream=True)):
        (choice,) = each["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == ["one two"] * 2


@pytest.mark.parametrize("stream", [False, True])
def test_what_fails_before_the_first_word_is_an_http_error(stream: bool) -> None:
    reply = chatting("broken", stream=stream)
    assert error(reply) == (502, "provider_key", None)
    assert reply.headers["x-should-retry"] == "false"


def test_a_head_waits_for_no_longer_than_a_heartbeat() -> None:
    """Then what fails is told in the stream, which does not look complete."""
    soon = {"options": {"settings": Settings(heartbeat_s=0.05)}}
    reply = chatting("silent", stream=True, **soon)
    assert reply.status == 200
    assert b": ping\n" in reply.body
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert "x-orchestra-time-to-first-token-ms" not in reply.headers
    reply = chatting("silent-broken", stream=True, **soon)
    assert (reply.status, frames(reply)[-1]["error"]["code"]) == (200, "provider_key")
    assert b"[DONE]" not in reply.body


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_its_run(stream: bool) -> None:
    async def main() -> None:
        async with house() as (opened, engine):
            client = await opened.connect()
            body = {"model": "hanging", "messages": [{"role": "user", "content": "Hi"}]}
            await client.send(POST, msgspec.json.encode({**body, "stream": stream}))
            if stream:
                await client.until(b'"a"')
            with trio.fail_after(5):
                while not engine.runs:
                    await trio.lowlevel.checkpoint()
                client.stream.socket.close()
                await engine.wait_idle()

    trio.run(main)


def test_a_pipeline_that_json_cannot_ask_is_spoken_with_only() -> None:
    found = asking("GET /v1/pipelines HTTP/1.1").json
    assert [each["name"] for each in found["pipelines"]] == ["chat", "plus"]  # type: ignore[attr-defined]
    assert asking("GET /v1/pipelines/bad HTTP/1.1").status == 404


def test_a_pipeline_of_conversations_is_asked_by_json_too() -> None:
    said = [{"role": "user", "content": "Hi"}, {"role": "user", "content": "there"}]
    post = "POST /v1/pipelines/chat/runs HTTP/1.1\nContent-Type: application/json"
    assert asking(post, {"inputs": {"messages": said}}).json["result"] == "there"
    wrong = asking(post, {"inputs": {"messages": [said[0], {"role": "user", "content": []}]}})
    assert (wrong.status, wrong.json["errors"][0]["pointer"]) == (422, "#/inputs/messages/1")  # type: ignore[index]
    shape = asking("GET /v1/pipelines/chat HTTP/1.1").json["inputs"]["properties"]["messages"]  # type: ignore[index]
    assert shape["items"]["required"] == ["role", "content"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "bad"), ("GET", "bad/runs"), ("POST", "bad/runs")]
)
def test_where_a_pipeline_of_whole_requests_is_asked_is_told_to_those_who_may(
    method: str, path: str
) -> None:
    def told(name: str, **options: Any) -> tuple[int, object, object]:
        head = f"{method} /v1/pipelines/{path.replace('bad', name)} HTTP/1.1"
        reply = asking(f"{head}\nAuthorization: Bearer {KEY}" if options else head, **options)
        return reply.status, reply.json["type"], reply.json["detail"]

    own = Admission(keyring=OneKey(Scopes(frozenset({"bad"}))))  # type: ignore[arg-type]
    kind = "urn:problem-type:orchestra:"
    for options in ({}, {"admission": own}):
        status, code, detail = told("bad", **options)
        assert (status, code) == (404, f"{kind}asked-as-model")
        assert "POST /v1/chat/completions" in str(detail)
        assert "'bad'" in str(detail)
    assert told("badd")[2] == "no pipeline is named 'badd'; did you mean 'bad'?"
    others = Admission(keyring=OneKey(Scopes(frozenset({"other"}))))  # type: ignore[arg-type]
    for name in ("bad", "none"):
        status, code, detail = told(name, admission=others)
        assert (status, code) == (403, f"{kind}not-allowed")
        assert "completions" not in str(detail)


def test_a_pipeline_that_a_model_hides_is_asked_nowhere() -> None:
    async def main() -> Reply:
        async with open_engine(World(models=MODELS)) as engine:
            app = create_app(engine, {next(iter(MODELS)): bad})
            async with open_house(app, Settings()) as opened:
                name = next(iter(MODELS))
                return await (await opened.connect()).ask(f"GET /v1/pipelines/{name} HTTP/1.1")

    assert trio.run(main).json["type"] == "urn:problem-type:orchestra:unknown-pipeline"


def test_a_pipeline_that_can_be_asked_in_no_way_is_not_served() -> None:
    @pipeline
    def two(request: ChatRequest, other: str) -> str:
        return joined(request, other)

    async def main() -> None:
        async with open_engine() as engine:
            with pytest.raises(ServeError, match="pipeline 'two' cannot be served"):
                create_app(engine, {"two": two})

    trio.run(main)


def test_a_server_says_which_fields_that_its_provider_would_heed_may_pass() -> None:
    """To whatever is asked: it is refused before it is known who would answer."""
    passing = {"settings": Settings(allowed=Allowlist(fields=frozenset(("models",))))}
    embed = "POST /v1/embeddings HTTP/1.1\nContent-Type: application/json"
    asked = {"model": "nobody", "input": "a", "models": ["x"]}
    assert error(chatting("nobody", models=["x"])) == (400, "invalid_value", "models")
    assert error(asking(embed, asked)) == (400, "invalid_value", "models")
    assert error(chatting("nobody", models=["x"], options=passing))[0] == 404
    assert error(asking(embed, asked, **passing))[0] == 404
