"""A run's events, told as OpenAI's chunks: from whatever point, and never more than is true."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, cast

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Context, Stream, injected, open_engine, pipeline, step
from orchestra.accounts import Usage
from orchestra.codecs.openai_serving.answers import AnswerWriter
from orchestra.engine.run import Run
from orchestra.errors import ModelError, OverloadedError
from orchestra.events import (
    ArmRestarted,
    Delta,
    Event,
    RunFailed,
    RunFinished,
    Snapshot,
    StepRouted,
    StepStarted,
)
from orchestra.policies.routing import ByOrder, Candidate, Route
from orchestra.providers.routing import RoutedModel
from orchestra.server.inputs.chat_shapes import RELAYED, GivesAnswers, GivesText
from orchestra.server.models.stream import ChunkEvents, Chunks, Facts
from orchestra.server.settings import Settings
from orchestra.steps.relay import ChoiceEvents
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import ChatRequest, Message, ModelEvent, Stopped, StopReason, TextDelta
from tests.codecs.openai_streams import decode

TEXT = GivesText(streams=True)
END = Stopped(StopReason.END)


@attrs.define
class Stub:
    """Of a run what is looked at here: its error, its clock, and that it was cancelled."""

    error: BaseException | None = None
    cancelled: str = ""

    @property
    def journal(self) -> Stub:
        return self

    def now_s(self) -> float:
        return 9.0

    def cancel(self, reason: str) -> None:
        self.cancelled = reason


def chunks(gives: GivesAnswers = TEXT, run: Stub | Run | None = None) -> Chunks:
    writer = AnswerWriter(0, answer_id="a", model="m", include_usage=True)
    return Chunks(cast("Any", run or Stub()), gives, writer, Facts("r", "m"))


def numbered(*events: Any) -> list[Event]:
    return [make(seq, seq / 10) for seq, make in enumerate(events, 1)]


def said(text: str) -> Any:
    return partial(Delta, chunk=text)


def finished(result: object, usage: Usage | None = None) -> Any:
    return partial(RunFinished, result=result, timings_s={}, usage=usage)


def text_of(raw: bytes) -> str:
    return "".join(e.text for e in decode([raw]) if isinstance(e, TextDelta))


@given(st.lists(st.text(min_size=1, max_size=3), max_size=5), st.data())
def test_from_wherever_a_snapshot_stands_the_text_is_the_same(
    pieces: Sequence[str], data: st.DataObject
) -> None:
    """Some deltas come in one snapshot, also some that were told already."""
    told = data.draw(st.integers(0, len(pieces)))
    kept = data.draw(st.integers(told, len(pieces)))
    events: list[Event] = [Delta(n, 0.1, each) for n, each in enumerate(pieces[:told])]
    events.append(Snapshot(kept, 0.1, "".join(pieces[:kept])))
    events += [Delta(n, 0.1, each) for n, each in enumerate(pieces[kept:], kept)]
    events.append(RunFinished(99, 0.1, "".join(pieces), {}))
    fold = chunks()
    raw = b"".join(fold.of((event,)) for event in events)
    assert text_of(raw) == "".join(pieces)
    assert fold.ended
    assert fold.failure is None


@given(st.integers(0, 3), st.integers(0, 3))
def test_chunks_of_a_model_are_caught_up_with_too(told: int, more: int) -> None:
    pieces = [ChoiceEvents(0, (TextDelta(str(n)),)) for n in range(told + more)]
    end = ChoiceEvents(0, (END,))
    fold = chunks(RELAYED)
    raw = fold.of(tuple(Delta(n, 0.1, each) for n, each in enumerate(pieces[:told])))
    raw += fold.of((Snapshot(9, 0.1, [*pieces, end]), RunFinished(10, 0.1, [], {})))
    assert text_of(raw) == "".join(str(n) for n in range(told + more))


def test_what_is_known_of_a_run_is_told_with_its_usage() -> None:
    fold = chunks()
    usage = Usage(3, 4, cost_nanodollars=5)
    events = numbered(
        partial(StepStarted, step="s"),
        said(""),
        partial(StepRouted, step="s", route="either", model="fast"),
        said("a"),
        finished("a", usage),
    )
    raw = fold.of(tuple(events))
    last = json.loads(raw.decode().strip().split("\n\n")[-2].removeprefix("data: "))
    assert last["usage"]["total_tokens"] == 7
    assert last["usage"]["orchestra"] == {
        "run_id": "r",
        "model": "fast",
        "cost_nanodollars": 5,
        "time_to_first_token_s": 0.4,
        "usage_by_model": {},
    }
    assert fold.facts.headers(5) == {
        "x-orchestra-run-id": "r",
        "x-orchestra-model": "fast",
        "x-orchestra-cost-nanodollars": "5",
        "x-orchestra-time-to-first-token-ms": "400.0",
    }


def test_what_is_not_known_yet_is_in_no_header() -> None:
    assert Facts("r", "m").headers() == {"x-orchestra-run-id": "r", "x-orchestra-model": "m"}


@step
async def asks_and_thinks(question: str, *, context: Context = injected) -> AsyncIterator[str]:
    await context.model("either").complete(ChatRequest((Message("user", question),)))
    await trio.sleep(9)
    yield "late"


@pipeline
def slow(question: str) -> Stream[str]:
    return asks_and_thinks(question)


def test_a_head_that_waits_no_longer_names_the_model_that_a_route_has_chosen() -> None:
    """Also where no content has come, and so nobody was woken for it."""

    async def main() -> dict[str, str]:
        route = Route(name="either", candidates=(Candidate(name="fast"),), by=ByOrder())
        either = RoutedModel(route, {"fast": ScriptedModel.saying("yes")})
        async with open_engine(World(models={"either": either})) as engine:
            run = engine.start(slow, {"question": "why?"})
            fold = chunks(run=run)
            assert await ChunkEvents(run, Settings(heartbeat_s=5), fold).open() is None
            return fold.facts.headers()

    assert virtual(main)["x-orchestra-model"] == "fast"


def test_what_was_told_cannot_be_taken_back() -> None:
    """So a restart ends the stream, and its run; before the first content it is no matter."""
    run = Stub()
    fold = chunks(run=run)
    restart = partial(ArmRestarted, step="f", arm="1")
    raw = fold.of(tuple(numbered(said(""), restart, said("b"))))
    assert (fold.ended, run.cancelled) == (False, "")
    raw += fold.of(tuple(numbered(restart, said("c"), finished("c"))))
    with pytest.raises(ModelError, match="has restarted"):
        decode([raw])
    assert (fold.ended, bool(run.cancelled)) == (True, True)
    missed = chunks(run=Stub())
    missed.of((Delta(1, 0.1, "b"), Snapshot(5, 0.1, "c", restarts=1)))
    assert isinstance(missed.failure, Exception)
    early = chunks(run=Stub())
    raw = early.of((Snapshot(5, 0.1, "c", restarts=1), RunFinished(6, 0.2, "c", {})))
    assert text_of(raw) == "c"


def test_a_failed_run_is_its_own_error() -> None:
    fold = chunks(run=Stub(OverloadedError("slow down")))
    failed = partial(RunFailed, error="OverloadedError", message="slow down")
    raw = fold.of(tuple(numbered(said("a"), failed)))
    with pytest.raises(OverloadedError, match="overloaded at the moment"):
        decode([raw])
    assert fold.of(tuple(numbered(said("b")))) == b"", "nothing comes behind the end"


def test_a_run_that_ended_well_with_a_cut_answer_has_failed() -> None:
    fold = chunks(RELAYED)
    cut: tuple[ModelEvent, ...] = (TextDelta("a"),)
    raw = fold.of(tuple(numbered(partial(Delta, chunk=ChoiceEvents(0, cut)), finished([]))))
    assert b"[DONE]" not in raw
    assert fold.failure is not None
