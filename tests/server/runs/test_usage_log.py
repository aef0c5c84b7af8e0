"""The log of usage: a line for each run, with all that an invoice needs and nothing that was said."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import trio

from orchestra import collect, pipeline, prompt
from orchestra.accounts import Usage
from orchestra.engine.engine import open_engine
from orchestra.engine.run import Run
from orchestra.errors import AuthenticationError
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.policies.guard import GuardedModel
from orchestra.policies.money.prices import Price
from orchestra.policies.routing import Candidate, Route
from orchestra.providers.routing import RoutedModel
from orchestra.server.app import create_app
from orchestra.server.runs.usage_log import usage_of
from orchestra.server.settings import Settings
from orchestra.steps import generate
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import Stopped, StopReason, TextDelta, UsageReport
from tests.server.asking import ADA, ASK, CHAT, Failing, asking
from tests.server.served import PIPELINES
from tests.server.wire import open_house

TOLD = Settings(usage_log=True)
SECRETS = ("How do you", "Very well")
ANSWERING = ScriptedModel(
    (
        (0.01, TextDelta("Very well.")),
        (0.0, UsageReport(Usage(120, 30, cached_input_tokens=100, reasoning_tokens=7))),
        (0.01, Stopped(StopReason.END)),
    )
)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = [each for each in caplog.records if each.name == "orchestra.usage"]
    assert all(each.levelno == logging.INFO for each in found)
    assert not any(word in each.message for each in found for word in SECRETS)
    return [json.loads(each.message) for each in found]


@pytest.fixture(autouse=True)
def _at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize(
    ("head", "names"),
    [(ASK, {"pipeline": "ask", "model": None}), (CHAT, {"pipeline": None, "model": "smart"})],
)
def test_a_run_is_told_with_its_caller_tokens_and_cost(
    head: str, names: dict[str, str | None], caplog: pytest.LogCaptureFixture
) -> None:
    streams = {"stream": True} if head == CHAT else {}
    reply = asking(f"{head}", ANSWERING, TOLD, **streams)
    assert reply.status == 200
    (line,) = lines(caplog)
    assert 0 < line.pop("first_chunk_s") <= line.pop("duration_s")
    assert line.pop("ended_s") > 0
    assert line.pop("run_id")
    assert line.pop("request_id") == reply.headers["x-request-id"]
    assert line == names | {
        "routed": [],
        "models": {
            "smart": {
                "input_tokens": 120,
                "output_tokens": 30,
                "cost_dollars": 0.00042,
                "unpriced_calls": 0,
            }
        },
        "organisation": "acme",
        "user": "ada",
        "key": "k1",
        "tags": {},
        "status": "finished",
        "error": None,
        "input_tokens": 120,
        "cached_input_tokens": 100,
        "cache_write_input_tokens": 0,
        "output_tokens": 30,
        "reasoning_tokens": 7,
        "certainty": "exact",
        "cost_dollars": 0.00042,  # $1 and $10 for a million tokens
        "unpriced_calls": 0,
    }


@pytest.mark.parametrize("head", [ASK, CHAT])
def test_of_a_route_it_is_told_which_models_have_answered(
    head: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not the one that has only failed; and each once, however often it was asked."""
    route = Route(name="smart", candidates=(Candidate(name="meant"), Candidate(name="instead")))
    refused = Failing(AuthenticationError("no such key"))
    routed = RoutedModel(route, {"meant": refused, "instead": ANSWERING})
    asking(head, routed, TOLD, **({"n": 2} if head == CHAT else {}))
    (line,) = lines(caplog)
    assert line["routed"] == ["instead"]


@pipeline
def asked(question: str) -> str:
    """Ask a model, a route, and the same route where its calls are shared."""
    answers = [collect(generate(question, model=name)) for name in ("fast", "route", "shared")]
    return prompt("{a} {b} {c}", a=answers[0], b=answers[1], c=answers[2])


def test_each_model_is_told_with_what_it_has_consumed() -> None:
    """A model of a route by its own name, but if its call may be shared by that of the route."""

    async def main() -> Run:
        price = Price(input=10**9, output=10**10)
        fast, member = (GuardedModel(ANSWERING, name=name, price=price) for name in ("fast", "m"))
        route = RoutedModel(Route(name="route", candidates=(Candidate(name="m"),)), {"m": member})
        models = {"fast": fast, "route": route, "shared": CoalescedModel(route, name="shared")}
        async with open_engine(World(models=models)) as engine:
            run = engine.start(asked, {"question": "How do you do?"}, caller=ADA)
            await run.result()
            return run

    run = trio.run(main)
    each = Usage(120, 30, cached_input_tokens=100, reasoning_tokens=7, cost_nanodollars=420_000)
    assert run.usage_by_model == {"fast": each, "m": each, "shared": each}
    assert run.usage == each + each + each
    assert list(usage_of(run, 1.0).models) == sorted(run.usage_by_model)


def test_a_run_that_failed_is_told_with_the_class_of_its_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asking(ASK, Failing(AuthenticationError("How do you know?")), TOLD)
    (line,) = lines(caplog)
    assert (line["status"], line["error"]) == ("failed", "AuthenticationError")
    assert (line["first_chunk_s"], line["certainty"], line["cost_dollars"]) == (None, None, 0)


def test_a_run_that_nobody_waited_for_is_told_as_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with open_engine() as engine:
            app = create_app(engine, PIPELINES, TOLD)
            async with open_house(app.asgi_app, TOLD) as house:
                client = await house.connect()
                head = "GET /v1/pipelines/count/runs?hold=true HTTP/1.1\nAccept: text/event-stream"
                await client.send(head)
                await client.until(b'"0 "')
                client.stream.socket.close()
                await engine.wait_idle()

    trio.run(main)
    (line,) = lines(caplog)
    assert (line["pipeline"], line["status"], line["error"]) == ("count", "cancelled", None)
    assert (line["organisation"], line["user"], line["key"]) == ("", "", "")


def test_nothing_is_told_where_nobody_has_asked_for_it(caplog: pytest.LogCaptureFixture) -> None:
    asking(ASK, ANSWERING)
    assert not lines(caplog)
    caplog.set_level(logging.WARNING, "orchestra.usage")
    asking(ASK, ANSWERING, TOLD)
    assert not lines(caplog)
