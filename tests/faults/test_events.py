"""An answer that breaks off, as a client of the real server hears it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from orchestra.server.app import create_app
from orchestra.server.settings import Settings
from tests.faults.misbehaving import FAULTS, HEALTHY, PRIMARY, hurry_s
from tests.faults.stand import WAYS, standing
from tests.providers.upstream import run
from tests.server.test_sse import Message, dispatched
from tests.server.wire import open_house

B = "".join(HEALTHY)


def asked(fault: str, way: str, tmp_path: Path, accept: str) -> bytes:
    """The body of an answer to a run whose first model does this."""
    body = msgspec.json.encode({"inputs": {"asked": "Count."}})
    head = f"POST /v1/pipelines/{way}/runs HTTP/1.1\nContent-Type: application/json\n{accept}"

    async def main() -> bytes:
        told = FAULTS[fault]
        async with standing(told.handle, tmp_path, hurry_s(told)) as stand:
            settings = Settings()
            app = create_app(stand.engine, WAYS, settings)
            async with open_house(app, settings) as house:
                reply = await (await house.connect()).ask(head, body)
            return reply.body

    return run(main)


def data(message: Message) -> dict[str, Any]:
    return msgspec.json.decode(message.data, type=dict[str, Any])


MIDWAY = [name for name, fault in FAULTS.items() if fault.midway]


@pytest.mark.parametrize("fault", MIDWAY)
def test_a_client_is_told_to_discard_and_then_hears_a_whole_answer(
    fault: str, tmp_path: Path
) -> None:
    messages = dispatched(asked(fault, "restarted", tmp_path, "Accept: text/event-stream"))
    kinds = [message.event for message in messages]
    assert kinds.count("arm.restarted") == 1
    at = kinds.index("arm.restarted")
    before = [data(message)["chunk"] for message in messages[:at] if message.event == "delta"]
    after = [data(message)["chunk"] for message in messages[at:] if message.event == "delta"]
    assert before == [PRIMARY[0]]
    assert "".join(after) == B
    assert kinds[-1] == "run.finished"
    assert data(messages[-1])["result"] == B


def test_who_waits_for_the_whole_answer_hears_nothing_of_it(tmp_path: Path) -> None:
    reply = asked("cut in the middle", "restarted", tmp_path, "Accept: application/json")
    assert msgspec.json.decode(reply)["result"] == B


@pytest.mark.parametrize("way", ["routed", "fallen", "raced"])
def test_without_a_restart_the_stream_ends_with_the_error(way: str, tmp_path: Path) -> None:
    messages = dispatched(asked("cut in the middle", way, tmp_path, "Accept: text/event-stream"))
    assert [data(each)["chunk"] for each in messages if each.event == "delta"] == [PRIMARY[0]]
    assert messages[-1].event == "run.failed"
    assert data(messages[-1])["error"] == "ModelConnectionError"
