"""`Prefer: return=minimal`: the last event of a stream does not repeat all of its chunks."""

from __future__ import annotations

import json
from typing import Any

import attrs

from orchestra.runs.record import EventLine
from orchestra.server.runs.views import line_without_result
from tests.runs.processes import REAL
from tests.server.runs.test_resources import (
    COUNT,
    STREAM,
    Served,
    ended,
    in_background,
    serving,
)
from tests.server.socketing import Stage, on_stage, open_socket
from tests.server.test_sse import dispatched
from tests.server.wire import Reply

MINIMAL = "Prefer: return=minimal"
START = f"POST /v1/pipelines/count/runs\n{STREAM}"


def events_of(reply: Reply) -> list[dict[str, Any]]:
    assert reply.status == 200
    return [json.loads(each.data) for each in dispatched(reply.body)]


def result_of(reply: Reply) -> object:
    """The result in the last event, which is `run.finished`."""
    return events_of(reply)[-1]["result"]


def test_the_result_of_a_stream_is_null_and_its_chunks_are_all_there() -> None:
    async def main(one: Served, other: Served) -> None:
        del other
        whole, brief = await one.ask(START, COUNT), await one.ask(f"{START}\n{MINIMAL}", COUNT)
        assert brief.headers["preference-applied"] == "return=minimal"
        assert "preference-applied" not in whole.headers
        chunks = [each["chunk"] for each in events_of(brief) if each["type"] == "delta"]
        assert "".join(chunks) == result_of(whole) == "0 1 2 "
        assert result_of(brief) is None
        kinds = [[each["type"] for each in events_of(reply)] for reply in (whole, brief)]
        assert kinds[0] == kinds[1]
        assert events_of(whole)[-1].keys() == events_of(brief)[-1].keys()

    serving(main)


def test_it_is_asked_for_by_each_request_for_events_however_the_run_was_started() -> None:
    """With a key, again with it, and by the run's path: on any server, after any event."""

    async def main(one: Served, other: Served) -> None:
        keyed = f"{START}\nIdempotency-Key: k"
        assert result_of(await one.ask(f"{keyed}\n{MINIMAL}", COUNT)) is None
        run_id = events_of(await one.ask(keyed, COUNT))[0]["run_id"]
        last = (await one.ask(keyed, COUNT)).body.count(b"\nid: ") + 1
        for each in (one, other):
            assert result_of(await each.ask(keyed, COUNT)) == "0 1 2 "
            assert result_of(await each.ask(f"{keyed}\n{MINIMAL}", COUNT)) is None
            for seq in range(last):
                path = f"GET /v1/runs/{run_id}/events?after={seq}\n{STREAM}"
                resumed = f"{START}\nLast-Event-ID: {run_id}.{seq}"
                for head in (path, resumed):
                    body = COUNT if head is resumed else b""
                    full, brief = (
                        await each.ask(head, body),
                        await each.ask(f"{head}\n{MINIMAL}", body),
                    )
                    assert result_of(full) == "0 1 2 "
                    assert result_of(brief) is None
                    assert events_of(brief)[:-1] == events_of(full)[:-1]

    serving(main)


def test_a_value_is_never_left_out() -> None:
    async def main(one: Served, other: Served) -> None:
        del other
        head = f"POST /v1/pipelines/twice/runs\n{STREAM}\n{MINIMAL}"
        reply = await one.ask(head, b'{"inputs": {"number": 4}}')
        assert result_of(reply) == 8
        assert "preference-applied" not in reply.headers

    serving(main)


def test_a_response_of_json_has_its_result() -> None:
    async def main(one: Served, other: Served) -> None:
        del other
        for key in ("", "\nIdempotency-Key: k", "\nIdempotency-Key: k"):
            reply = await one.ask(f"POST /v1/pipelines/count/runs\n{MINIMAL}{key}", COUNT)
            assert reply.json["result"] == "0 1 2 "

    serving(main)


def test_where_events_are_no_longer_kept_the_client_still_gets_all_output() -> None:
    output = "".join(f"{number} " for number in range(200))

    async def main(one: Served, other: Served) -> None:
        location = (await in_background(one, b'{"inputs": {"count": 200}}')).headers["location"]
        await ended(one, location)
        for each in (one, other):
            snapshot, end = events_of(await each.ask(f"GET {location}/events\n{STREAM}\n{MINIMAL}"))
            assert snapshot["output"] == output
            assert end["result"] is None

    serving(main, runs=attrs.evolve(REAL, kept_bytes=3_000))


def test_half_a_character_beside_the_result_is_kept() -> None:
    line = EventLine(3, "run.finished", b'{"type":"run.finished","result":"\\ud83d","x":"\\ud83d"}')
    assert json.loads(line_without_result(line).data) == {
        "type": "run.finished",
        "result": None,
        "x": "\ud83d",
    }


def test_a_run_over_a_socket_is_started_with_it() -> None:
    async def test(stage: Stage) -> None:
        socket = await open_socket(stage.house)
        ends = {}
        for wanted in ("representation", "minimal"):
            start = {"type": "start", "id": wanted, "inputs": {"count": 3}, "return": wanted}
            await socket.send(json.dumps(start))
            events = await socket.events(wanted)
            ends[wanted] = events[-1]["result"]
            assert [each["chunk"] for each in events if each["type"] == "delta"] == [
                "0 ",
                "1 ",
                "2 ",
            ]
        assert ends == {"representation": "0 1 2 ", "minimal": None}
        await socket.send('{"type": "start", "id": "a", "return": "nothing"}')
        problem = (await socket.receive())["problem"]
        assert problem["type"].endswith(":bad-message")
        assert "`return` is 'nothing'" in problem["detail"]

    on_stage(test)
