"""Items that failed, over HTTP: in an answer, in a stream, in the schema, and past their bound."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
import pytest
import trio

from orchestra.annotations.schemas import object_schema
from orchestra.engine.engine import open_engine
from orchestra.errors import OverloadedError
from orchestra.failed import Failed
from orchestra.graph.control.constructs import each
from orchestra.graph.pipelines import pipeline
from orchestra.graph.steps import step
from orchestra.protocols import Stream
from orchestra.server.app import create_app
from orchestra.server.runs.results import schema
from orchestra.server.settings import Settings
from tests.server.test_sse import dispatched
from tests.server.wire import Reply, open_house

SECRET = "sk-123 in /home/me/steps.py"


class InvalidRequestError(Exception):
    """Another's, as stripe has one, that is called as one of ours."""


@attrs.frozen
class Bill:
    """A class without a member that tells it apart."""

    total: int


@step
async def read(name: str) -> Bill:
    if name == "foreign":
        raise ValueError(SECRET)
    if name == "namesake":
        raise InvalidRequestError(SECRET)
    if name == "model":
        raise OverloadedError("no room", status=529, provider="acme", request_id=SECRET)
    return Bill(len(name))


@pipeline
def bills(names: list[str]) -> list[Bill | Failed[str]]:
    return each(names, read, at_once=1, failures_max=2)


def asking(names: list[str], accept: str, *, debug: bool) -> Reply:
    """The answer to one request for a run."""

    async def main() -> Reply:
        settings = Settings(debug=debug)
        async with open_engine() as engine:
            app = create_app(engine, {"bills": bills}, settings)
            async with open_house(app, settings) as house:
                head = "POST /v1/pipelines/bills/runs HTTP/1.1\nContent-Type: application/json\n"
                body = msgspec.json.encode({"inputs": {"names": names}})
                return await (await house.connect()).ask(f"{head}Accept: {accept}", body)

    return trio.run(main)


def told(reply: Reply) -> Any:
    """The result, as it is told."""
    if "event-stream" not in reply.headers["content-type"]:
        return msgspec.json.decode(reply.body)["result"]
    return msgspec.json.decode(dispatched(reply.body)[-1].data)["result"]


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("debug", [False, True])
def test_values_and_failures_are_told_in_order_and_no_secret_is(accept: str, debug: bool) -> None:
    reply = asking(["ab", "foreign", "model", "abc"], accept, debug=debug)
    assert reply.status == 200
    first, foreign, model, last = told(reply)
    assert (first, last) == ({"total": 2}, {"total": 3})
    assert (foreign["kind"], foreign["index"], foreign["item"]) == ("failed", 1, "foreign")
    assert (foreign["error"], foreign["step"]) == ("ValueError", "each[1]/read")
    assert (model["error"], model["retryable"]) == ("OverloadedError", True)
    assert (model["model"] is not None) == debug
    assert (SECRET.encode() in reply.body) == debug


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("names", [["namesake"], ["namesake"] * 3])
def test_a_foreign_error_that_is_called_as_one_of_ours_is_foreign(
    accept: str, names: list[str]
) -> None:
    reply = asking(names, accept, debug=False)
    assert f"{__name__}.InvalidRequestError".encode() in reply.body
    assert SECRET.encode() not in reply.body


def test_a_stream_tells_of_each_as_it_fails() -> None:
    reply = asking(["foreign", "a", "model"], "text/event-stream", debug=False)
    failed = [
        msgspec.json.decode(m.data) for m in dispatched(reply.body) if m.event == "item.failed"
    ]
    assert [(e["step"], e["index"], e["error"]) for e in failed] == [
        ("each", 0, "ValueError"),
        ("each", 2, "OverloadedError"),
    ]


def test_one_too_many_is_a_run_that_failed_and_says_nothing_that_is_foreign() -> None:
    reply = asking(["foreign"] * 9, "application/json", debug=False)
    problem = msgspec.json.decode(reply.body, type=dict[str, Any])
    assert reply.status == 500
    assert problem["error"] == "LimitExceededError"
    assert "more than 2 of the items of 'each' have failed" in problem["detail"]
    assert SECRET not in str(problem)


@pytest.mark.parametrize(
    ("kind", "depth"),
    [
        (list[Bill | Failed[str]], 1),
        (Stream[Bill | Failed[str]], 1),
        (list[list[Bill | Failed[str]]], 2),
    ],
)
def test_the_schema_of_a_class_or_a_failure_has_both(kind: object, depth: int) -> None:
    """Msgspec reads no such union, but nobody has to read it here."""
    found = schema(kind)
    result = found["properties"]["result"]
    for _ in range(depth):
        assert result["type"] == "array"
        result = result["items"]
    names = [each["$ref"].removeprefix("#/$defs/") for each in result["anyOf"]]
    assert [found["$defs"][name]["title"] for name in names] == ["Bill", "Failed[str]"]
    assert found["required"] == ["result"]


def test_what_msgspec_reads_by_itself_is_told_as_it_tells_it() -> None:
    kind = list[int | Failed[str]]
    assert schema(kind) == object_schema({"result": kind}, {})


@pytest.mark.parametrize("kind", [list[Failed[str] | Failed[Bill]], list[Bill | Reply], complex])
def test_what_has_no_form_has_no_schema(kind: object) -> None:
    assert schema(kind) == {}
