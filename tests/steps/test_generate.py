"""`generate`: what a model says, all of it, or an error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Limits, Stream, pipeline, step
from orchestra.accounts import Usage
from orchestra.errors import TruncatedStreamError
from orchestra.events import RunFinished
from orchestra.protocols import Model, ModelReply
from orchestra.steps import embed_all, generate
from orchestra.testing.simulate import simulate
from orchestra.testing.strategies import schedules
from orchestra.testing.world import World
from orchestra.values import (
    ChatRequest,
    Message,
    ModelEvent,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
    Vector,
)


@attrs.define
class Said(Model):
    """A model that keeps what it was asked, and says these batches and then no more."""

    batches: list[tuple[ModelEvent, ...]]
    asked: list[ChatRequest] = attrs.Factory(list)

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        """The batches."""
        self.asked.append(request)
        yield self

    async def receive(self) -> tuple[ModelEvent, ...]:
        """The next batch."""
        await trio.lowlevel.checkpoint()
        return self.batches.pop(0) if self.batches else ()


@pipeline
def ask(question: object) -> Stream[str]:
    """A question of any form."""
    return generate(question)  # type: ignore[call-overload, no-any-return]


words = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=5)


@given(words)
def test_an_end_without_a_reason_is_an_error_whatever_was_said(said: list[str]) -> None:
    """A cut stream is never a short answer."""
    model = Said([(TextDelta(word),) for word in said])
    run = simulate(ask, World(models={"default": model}), question="why?")
    assert isinstance(run.error, TruncatedStreamError)
    assert run.error.retryable


@given(words)
def test_the_text_is_all_that_was_said_and_the_last_usage_counts(said: list[str]) -> None:
    """Usage is reported so far, again and again; it is never summed."""
    deltas: list[ModelEvent] = [TextDelta(word) for word in said]
    reports = [UsageReport(Usage(3, n)) for n in range(1, 4)]
    model = Said([(*deltas, *reports, Stopped(StopReason.END))])
    run = simulate(ask, World(models={"default": model}), question="why?")
    assert run.value == "".join(said)
    last = run.events[-1]
    assert isinstance(last, RunFinished)
    assert last.usage == Usage(3, 3)


@step
async def first(chunks: Stream[str]) -> str:
    """The first chunk, after which it leaves the stream."""
    async for chunk in chunks:
        return chunk
    return ""


@pipeline
def ask_shortly(question: str) -> str:
    """Whose reader wants no more than a word."""
    return first(generate(question))


@given(words, schedules())
def test_a_usage_that_has_arrived_counts_also_where_its_reader_leaves_before(
    said: list[str], schedule: int
) -> None:
    deltas: list[ModelEvent] = [TextDelta(word) for word in said]
    model = Said([(*deltas, UsageReport(Usage(3, 5)), Stopped(StopReason.END))])
    limits = Limits(lane_chunks=1)
    world = World(models={"default": model}, schedule=schedule, limits=limits)
    run = simulate(ask_shortly, world, question="why?")
    assert run.value == said[0]
    last = run.events[-1]
    assert isinstance(last, RunFinished)
    assert last.usage == Usage(3, 5)


def test_a_question_may_be_text_a_message_several_or_a_request() -> None:
    one = Message("user", "why?")
    for question in ("why?", one, [one], ChatRequest((one,))):
        model = Said([(Stopped(StopReason.END),)])
        simulate(ask, World(models={"default": model}), question=question)
        assert model.asked == [ChatRequest((one,))]


class Lengths:
    """An embedder whose vectors are the texts' lengths."""

    dimensions = 1

    async def embed(self, texts: object, *, purpose: object = None) -> list[Vector]:
        """One vector for each text."""
        assert isinstance(texts, list)
        return [Vector.of([len(text)]) for text in texts]


@pipeline
def embedded(texts: list[str]) -> list[Vector]:
    """All of them."""
    return embed_all(texts)


def test_texts_are_embedded_together_and_none_is_no_call() -> None:
    world = World(embedders={"default": Lengths()})
    assert simulate(embedded, world, texts=["a", "bcd"]).value == [Vector.of([1]), Vector.of([3])]
    assert simulate(embedded, world, texts=[]).value == []
