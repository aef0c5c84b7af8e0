"""A run that ends because a person has to approve a call, as clients of the server see it."""

from __future__ import annotations

import json

import pytest
import trio

from orchestra.engine.engine import open_engine
from orchestra.graph.pipelines import pipeline
from orchestra.protocols import Stream
from orchestra.server.app import create_app
from orchestra.server.settings import Settings
from orchestra.steps import generate, tool
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import World
from orchestra.values import ToolCall
from tests.server.test_sse import dispatched
from tests.server.wire import Reply, open_house

RUNS = "POST /v1/pipelines/shop/runs HTTP/1.1\nAccept: "
CHAT = "POST /v1/chat/completions HTTP/1.1"
paid: list[int] = []


@tool(needs_approval=True)
async def pay(euros: int) -> str:
    """Pay."""
    paid.append(euros)
    return "paid"


@pipeline
def shop(question: str) -> Stream[str]:
    return generate(question, tools=(pay,), system="The PIN is 4111.")


def asking(head: str, body: dict[str, object]) -> Reply:
    async def main() -> Reply:
        model = ScriptedTurns.saying(["I will pay.", ToolCall("1", "pay", '{"euros": 4111}')])
        async with open_engine(World(models={"default": model}).bound()) as engine:
            settings = Settings()
            app = create_app(engine, {"shop": shop}, settings)
            async with open_house(app, settings) as house:
                head_ = f"{head}\nContent-Type: application/json"
                return await (await house.connect()).ask(head_, json.dumps(body).encode())

    return trio.run(main)


INPUTS: dict[str, object] = {"inputs": {"question": "Buy it."}}
ASKED: dict[str, object] = {"model": "shop", "messages": [{"role": "user", "content": "Buy it."}]}


def test_a_whole_answer_is_the_problem_approval_needed() -> None:
    reply = asking(f"{RUNS}application/json", INPUTS)
    assert reply.status == 409
    assert reply.json["type"] == "urn:problem-type:orchestra:approval-needed"
    assert reply.json["error"] == "ApprovalNeededError"
    assert "need a person's approval: pay;" in str(reply.json["detail"])


def test_a_stream_has_the_text_and_ends_with_the_problem() -> None:
    reply = asking(f"{RUNS}text/event-stream", INPUTS)
    last = dispatched(reply.body)[-1]
    assert last.event == "run.failed"
    assert json.loads(last.data)["problem"]["type"].endswith(":approval-needed")
    assert b"I will pay." in reply.body


def test_a_client_of_openai_gets_an_error_that_its_sdk_does_not_retry() -> None:
    reply = asking(CHAT, ASKED)
    assert (reply.status, reply.headers["x-should-retry"]) == (409, "false")
    assert json.loads(reply.body)["error"]["code"] == "approval_needed"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (f"{RUNS}application/json", INPUTS),
        (f"{RUNS}text/event-stream", INPUTS),
        (CHAT, ASKED),
        (CHAT, ASKED | {"stream": True}),
    ],
)
def test_no_prompt_and_no_arguments_are_sent_and_nothing_is_done(
    head: str, body: dict[str, object]
) -> None:
    reply = asking(head, body)
    assert b"approval" in reply.body
    assert b"4111" not in reply.body
    assert not paid
