"""Clients are told what each model consumed, wherever they are told what a run did."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from orchestra.accounts import Usage
from orchestra.errors import AuthenticationError
from orchestra.testing.world import ScriptedModel
from orchestra.values import Stopped, StopReason, TextDelta, UsageReport
from tests.server.asking import ASK, CHAT, Failing, open_asked
from tests.server.wire import Reply

ANSWERING = ScriptedModel(
    (
        (0.0, TextDelta("Very well.")),
        (0.0, UsageReport(Usage(120, 30))),
        (0.0, Stopped(StopReason.END)),
    )
)
KEYED = "Idempotency-Key: k"  # so that the run is listed when its answer comes
OF_SMART = {
    "input_tokens": 120,
    "output_tokens": 30,
    "certainty": "exact",
    "cached_input_tokens": 0,
    "cache_write_input_tokens": 0,
    "reasoning_tokens": 0,
    "cost_nanodollars": 420_000,
    "unpriced_calls": 0,
}


def shown(record: Any) -> Any:
    assert record["usage"] in (OF_SMART, None)
    return record["usage_by_model"]


def test_the_usage_of_each_model_is_in_events_results_and_records() -> None:
    """In the same form everywhere; a record that is kept has it as well."""

    async def main() -> list[Any]:
        async with open_asked(ANSWERING) as asked:
            whole = await asked.ask(ASK, KEYED)
            streamed = await asked.ask(ASK, "Accept: text/event-stream", KEYED)
            record = await asked.ask(f"GET /v1/runs/{whole.json['run_id']} HTTP/1.1")
            listed = await asked.ask("GET /v1/runs HTTP/1.1")
            again = await asked.ask(ASK, KEYED)
            assert again.headers["idempotent-replayed"] == "true"
            found: Any = listed.json["runs"]
            return [whole.json, last_of(streamed), record.json, *found, again.json]

    assert list(map(shown, trio.run(main))) == [{"smart": OF_SMART}] * 5


@pytest.mark.parametrize("stream", [False, True])
def test_it_is_in_the_usage_of_an_answer_of_the_openai_compatible_api(stream: bool) -> None:
    async def main() -> Any:
        async with open_asked(ANSWERING) as asked:
            options = {"stream_options": {"include_usage": True}} if stream else {}
            return await asked.ask(CHAT, stream=stream, **options)

    reply = trio.run(main)
    data = reply.body.split(b"data: ")[-2] if stream else reply.body
    assert json.loads(data)["usage"]["orchestra"]["usage_by_model"] == {"smart": OF_SMART}


def test_a_run_that_failed_before_any_answer_has_none() -> None:
    async def main() -> list[Any]:
        async with open_asked(Failing(AuthenticationError("no"))) as asked:
            streamed = await asked.ask(ASK, "Accept: text/event-stream", KEYED)
            listed = await asked.ask("GET /v1/runs HTTP/1.1")
            found: Any = listed.json["runs"]
            return [last_of(streamed), *found]

    assert list(map(shown, trio.run(main))) == [{}, {}]


def last_of(reply: Reply) -> Any:
    """The last event of a stream."""
    return json.loads(reply.body.split(b"data: ")[-1])


def test_the_record_of_a_called_model_has_the_name_that_was_requested() -> None:
    """That of a pipeline's run has none."""

    async def main() -> list[tuple[str, str | None]]:
        async with open_asked(ANSWERING) as asked:
            await asked.ask(ASK, KEYED)
            await asked.ask(CHAT)
            found: list[tuple[str, str | None]] = []
            with trio.fail_after(5):
                while len(found) < 2:  # a run of a model is recorded after its answer
                    listed: Any = (await asked.ask("GET /v1/runs HTTP/1.1")).json
                    found = [(each["pipeline"], each["model"]) for each in listed["runs"]]
            return found

    found = trio.run(main)
    assert found[0] == ("relay", "smart")
    assert found[1][1] is None
