"""Anthropic's API on the wire: shapes, keys, refusals before any handler, and ends of streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio

from orchestra.access.keys import Refusal
from orchestra.access.principal import Principal, Scopes
from orchestra.accounts import Caller
from orchestra.engine.engine import open_engine
from orchestra.errors import BudgetExceededError, LimitReachedError, OverloadedError
from orchestra.graph.pipelines import pipeline
from orchestra.graph.steps import step
from orchestra.policies.routing import Candidate, Route
from orchestra.protocols import Model, Stream
from orchestra.providers.routing import RoutedModel
from orchestra.server.app import create_app
from orchestra.server.front.layers import OPEN, Admission
from orchestra.server.models.paths import shaped_at
from orchestra.server.responses import problems
from orchestra.server.responses.caller_problems import (
    key_refused,
    not_allowed,
    your_budget,
    your_rate,
)
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.settings import Settings
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import (
    Capabilities,
    Json,
    Message,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
)
from tests.server.wire import House, Reply, open_house

AT = "/v1/messages"
KEY = "ork_key"
VERSION = "\nanthropic-version: 2023-06-01"


class Plain(ScriptedModel):
    """A model that is known not to reason; it says how hard it was to think."""

    capabilities = Capabilities(reasoning=False, json_schema=False)


MODELS: dict[str, Model] = {
    "m": ScriptedModel.saying("one ", "two"),
    "plain": Plain.saying("done"),
    "refusing": ScriptedModel(((0.0, RefusalDelta("No.")), (0.0, Stopped(StopReason.END)))),
    "breaking": ScriptedModel(((0.0, TextDelta("a")),), OverloadedError("no room")),
    "broken": ScriptedModel((), OverloadedError("no room")),
    "cut": ScriptedModel(((0.0, TextDelta("a")),)),
    "silent": ScriptedModel(((1.0, TextDelta("late")), (0.0, Stopped(StopReason.END)))),
}

THINKING = Candidate(name="thinking", capabilities=Capabilities(reasoning=True))
PLAIN = Candidate(name="plain", capabilities=Plain.capabilities)
MODELS["either"] = RoutedModel(
    Route(name="either", candidates=(THINKING, PLAIN)),
    {"thinking": MODELS["broken"], "plain": MODELS["plain"]},
)


@step
async def echoed(messages: list[Message]) -> AsyncIterator[str]:
    yield messages[-1].text


@pipeline
def chat(messages: list[Message]) -> Stream[str]:
    """Say it back."""
    return echoed(messages)


class OneKey:
    """A keyring with one key."""

    def __init__(self, scopes: Scopes) -> None:
        self._scopes = scopes

    async def authenticate(self, token: str) -> Principal | Refusal:
        if token != KEY:
            return Refusal("unknown", "no such key")
        return Principal(Caller("acme", "ada"), self._scopes)


def keyed(*models: str) -> Admission:
    scopes = Scopes(pipelines=frozenset(), models=frozenset(models or ("*",)))
    return Admission(keyring=OneKey(scopes))  # type: ignore[arg-type]


def served(
    main: Callable[[House], Awaitable[None]],
    admission: Admission = OPEN,
    settings: Settings | None = None,
) -> None:
    settings = settings or Settings()

    async def run() -> None:
        world = World(models=MODELS, embedders={"vectors": MODELS["m"]})  # type: ignore[dict-item]
        async with open_engine(world) as engine:
            app = create_app(engine, {"chat": chat}, settings, admission)
            async with open_house(app, settings) as house:
                await main(house)

    trio.run(run)


def asked(
    model: str = "m",
    head: str = f"POST {AT} HTTP/1.1",
    admission: Admission = OPEN,
    settings: Settings | None = None,
    **fields: object,
) -> Reply:
    """The answer to one request."""
    said = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    body = msgspec.json.encode({**said, **fields}) if head.startswith("POST") else b""
    kind = "\nContent-Type: application/json" if body and "Content-Type" not in head else ""
    replies = []

    async def main(house: House) -> None:
        replies.append(await (await house.connect()).ask(head + kind, body))

    served(main, admission, settings)
    return replies[0]


def found(reply: Reply) -> Any:
    return reply.json


def error(reply: Reply) -> tuple[int, str, str]:
    """Status, type and code of an error, which has the form and the ids that all of them have."""
    told = found(reply)
    assert told["type"] == "error"
    assert told["request_id"] == reply.headers["request-id"] == reply.headers["x-request-id"]
    return reply.status, told["error"]["type"], told["error"]["details"]["error_code"]


def events(reply: Reply) -> list[Json]:
    frames = [each for each in reply.body.decode().split("\n\n") if each.startswith("event: ")]
    return [msgspec.json.decode(each.split("\ndata: ")[1]) for each in frames]


def test_an_answer_is_the_same_whole_and_streamed() -> None:
    reply = asked()
    whole = found(reply)
    assert whole["content"] == [{"type": "text", "text": "one two"}]
    assert (whole["type"], whole["role"], whole["model"]) == ("message", "assistant", "m")
    assert whole["id"] == f"msg_{reply.headers['x-orchestra-run-id']}"
    assert whole["usage"]["orchestra"]["model"] == "m"
    told = events(asked(stream=True))
    said = [each["delta"]["text"] for each in told if each["type"] == "content_block_delta"]
    assert said == ["one ", "two"]
    assert (told[0]["type"], told[-1]) == ("message_start", {"type": "message_stop"})
    assert told[-2]["delta"]["stop_reason"] == whole["stop_reason"] == "end_turn"
    assert told[-2]["usage"].keys() == whole["usage"].keys()


def test_a_pipeline_answers_as_a_model_does() -> None:
    assert found(asked("chat"))["content"] == [{"type": "text", "text": "Hi"}]
    tool = {"name": "f", "input_schema": {"type": "object"}}
    assert error(asked("chat", tools=[tool]))[:2] == (400, "invalid_request_error")
    wanted = {"format": {"type": "json_schema", "schema": {}}}
    refused = found(asked("chat", output_config=wanted))["error"]["message"]
    assert refused.startswith("output_config.format: this model is a pipeline")


def test_a_models_refusal_is_why_it_stopped() -> None:
    whole, told = found(asked("refusing")), events(asked("refusing", stream=True))
    assert whole["stop_reason"] == told[-2]["delta"]["stop_reason"] == "refusal"
    assert whole["stop_details"]["explanation"] == "No."


def test_what_fails_before_anything_is_said_is_an_http_error() -> None:
    for stream in (False, True):
        assert error(asked("broken", stream=stream)) == (529, "overloaded_error", "overloaded")


@pytest.mark.parametrize(
    ("model", "kind"), [("breaking", "overloaded_error"), ("cut", "api_error")]
)
def test_a_stream_that_fails_ends_with_the_error(model: str, kind: str) -> None:
    reply = asked(model, stream=True)
    assert reply.status == 200
    last = events(reply)[-1]
    assert (last["type"], last["error"]["type"]) == ("error", kind)
    assert last["request_id"] == reply.headers["x-request-id"]
    assert b"message_stop" not in reply.body
    assert b"message_delta" not in reply.body
    assert error(asked(model))[1] == kind


def test_a_silence_has_pings_which_clients_know() -> None:
    reply = asked("silent", settings=Settings(heartbeat_s=0.05), stream=True)
    assert reply.body.startswith(b'event: ping\ndata: {"type":"ping"}\n\n')
    assert reply.body.count(b"event: ping") > 2
    assert b": ping\n" not in reply.body.replace(b"event: ping\n", b"")


def test_thinking_that_is_left_to_a_model_is_not_asked_of_one_that_cannot() -> None:
    """Coding agents send it to all; who orders it by a budget is told that it cannot be had."""
    for fields in ({"thinking": {"type": "adaptive"}}, {"output_config": {"effort": "low"}}):
        assert asked("plain", **fields).status == 200  # type: ignore[arg-type]
    budget = {"type": "enabled", "budget_tokens": 2000}
    assert error(asked("plain", thinking=budget)) == (
        *(400, "invalid_request_error", "unsupported_parameter"),
    )


def test_a_route_falls_back_on_a_model_that_cannot_think() -> None:
    assert found(asked("either", thinking={"type": "adaptive"}))["usage"]["orchestra"]["model"] == (
        "plain"
    )


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("", 401),
        (f"\nx-api-key: {KEY}", 200),
        (f"\nAuthorization: Bearer {KEY}", 200),
        ("\nx-api-key: ork_other", 401),
        (f"\nx-api-key: ork_other\nAuthorization: Bearer {KEY}", 200),
        (f"\nx-api-key: {KEY}\nAuthorization: Bearer ork_other", 401),
    ],
)
def test_a_key_stands_in_either_place_and_authorization_decides(lines: str, status: int) -> None:
    reply = asked(head=f"POST {AT} HTTP/1.1{lines}{VERSION}", admission=keyed())
    assert reply.status == status
    if status == 401:
        assert error(reply) == (401, "authentication_error", "invalid_api_key")
        assert "bearer" in reply.headers["www-authenticate"]


def test_the_key_of_anthropics_clients_is_not_read_of_others() -> None:
    """It may be meant for whoever stands in front of this server."""
    key = f"\nx-api-key: {KEY}"
    for path, version, status in (
        ("/v1/models", VERSION, 200),
        ("/v1/models", "", 401),
        ("/v1/pipelines", "", 401),
    ):
        head = f"GET {path} HTTP/1.1{key}{version}"
        assert asked(head=head, admission=keyed()).status == status
    assert asked(head="GET /healthz HTTP/1.1\nx-api-key: theirs", admission=keyed()).status == 200


def test_a_key_sees_only_what_it_may_ask() -> None:
    head = f"\nx-api-key: {KEY}{VERSION}"
    refused = asked("cut", f"POST {AT} HTTP/1.1{head}", keyed("m"))
    assert error(refused) == (404, "not_found_error", "model_not_found")
    listed = found(asked(head=f"GET /v1/models HTTP/1.1{head}", admission=keyed("m")))
    assert [each["id"] for each in listed["data"]] == ["m"]
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("m", "m", False)
    count = f"POST {AT}/count_tokens HTTP/1.1{head}"
    assert error(asked("cut", count, keyed("m")))[0] == 404
    assert found(asked("m", count, keyed("m")))["input_tokens"] > 0


def test_models_have_anthropics_form_for_its_clients_alone() -> None:
    one = found(asked(head=f"GET /v1/models/m HTTP/1.1{VERSION}"))
    assert (one["type"], one["display_name"]) == ("model", "m")
    assert found(asked(head="GET /v1/models/m HTTP/1.1"))["object"] == "model"
    none = asked(head=f"GET /v1/models/none HTTP/1.1{VERSION}")
    assert error(none) == (404, "not_found_error", "model_not_found")


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("GET /v1/messages HTTP/1.1", (405, "invalid_request_error", "method_not_allowed")),
        ("POST /v1/messages/batches HTTP/1.1", (404, "not_found_error", "not_found")),
        ("POST /v1/v1/messages HTTP/1.1", (404, "not_found_error", "not_found")),
        (
            "POST /v1/messages HTTP/1.1\nContent-Type: text/plain",
            (415, "invalid_request_error", "bad_media_type"),
        ),
        (
            "POST /v1/messages HTTP/1.1\nContent-Encoding: gzip",
            (415, "invalid_request_error", "bad_content_encoding"),
        ),
    ],
)
def test_what_is_refused_before_a_handler_has_anthropics_form(
    head: str, expected: tuple[int, str, str]
) -> None:
    reply = asked(head=head + VERSION)
    assert error(reply) == expected
    if expected[0] == 404:
        assert "a client's base URL ends before /v1" in found(reply)["error"]["message"]


def test_a_body_that_is_too_large_has_it_too() -> None:
    reply = asked(head=f"POST {AT} HTTP/1.1{VERSION}", settings=Settings(body_limit_bytes=20))
    assert error(reply) == (413, "request_too_large", "body_too_large")


@pytest.mark.parametrize(
    ("problem", "status", "kind", "code"),
    [
        (key_refused("expired"), 401, "authentication_error", "invalid_api_key"),
        (not_allowed("model", "m"), 403, "permission_error", "not_allowed"),
        (
            your_rate(LimitReachedError("slow", retry_after_s=2.0)),
            *(429, "rate_limit_error", "rate_limit_exceeded"),
        ),
        (
            your_budget(BudgetExceededError("spent")),
            *(402, "billing_error", "insufficient_quota"),
        ),
        (problems.too_busy("full"), 529, "overloaded_error", "too_busy"),
    ],
)
def test_what_is_wrong_with_a_caller_is_told_in_anthropics_words(
    problem: HttpProblem, status: int, kind: str, code: str
) -> None:
    told = shaped_at(AT, problem)
    said = msgspec.json.decode(told.encode())["error"]
    assert (told.status, said["type"], said["details"]["error_code"]) == (status, kind, code)
    assert set(problem.headers) <= set(told.headers), "when to come again, and with what"


def test_who_only_makes_vectors_answers_nothing_and_counts_nothing() -> None:
    for head in (f"POST {AT} HTTP/1.1", f"POST {AT}/count_tokens HTTP/1.1"):
        reply = asked("vectors", head)
        assert error(reply) == (400, "invalid_request_error", "invalid_value")
        said = found(reply)["error"]["message"]
        assert said == "model: 'vectors' is only an embedder; use POST /v1/embeddings"


def test_what_a_model_cannot_do_is_told_with_the_field_that_was_sent() -> None:
    wanted = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    said = found(asked("plain", output_config=wanted))["error"]["message"]
    assert said.startswith("output_config.format=... cannot be sent to the model 'plain'")


def test_what_is_wrong_with_a_request_names_the_field() -> None:
    reply = asked(tools=[{"type": "bash_20250124", "name": "bash"}])
    assert error(reply) == (400, "invalid_request_error", "invalid_value")
    assert found(reply)["error"]["message"].startswith("tools[0].type: ")
    count = asked(head=f"POST {AT}/count_tokens HTTP/1.1{VERSION}", max_tokens="many")
    assert found(count)["error"]["message"].startswith("max_tokens: ")
