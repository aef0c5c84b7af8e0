"""Sketches: random pipelines as plain data, from which a real pipeline is built.

A sketch is a list of parts; each reads earlier parts by number. Building calls the
library as a user would. The steps in it compute small numbers, take virtual time, and
fail where they are told to; `oracle` predicts the result by plain recursion.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import attrs
import trio

from orchestra.graph.control.constructs import collect, each, fallback, race, route
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.rules.commits import FIRST_CONTENT, Commit
from orchestra.graph.rules.policy import Policy, Retry
from orchestra.graph.steps import step
from orchestra.protocols import Stream
from orchestra.testing.playing.attempts import AttemptCounter
from tests.testing.sketches.mixing import chunk_of_source, is_accepted, mix
from tests.testing.sketches.polls import Agreeing, Judging, wire_of_poll

Body: TypeAlias = Literal["value", "race", "fallback", "route", "stream", "fails"]
"""The kind of an `each` body."""
BODIES: tuple[Body, ...] = get_args(Body)


class SketchError(Exception):
    """Raised by a step of a sketch that is told to fail."""


class FlakyError(SketchError):
    """Raised by a step of a sketch that may work in a later attempt."""

    retryable = True


@attrs.frozen
class Flaky:
    """How often a call fails before it works, and the limit of attempts."""

    failures: int = 0
    attempts_max: int = 1

    def retry(self, delay_s: float) -> Retry | None:
        """The retry rule of a step with this delay; None for one attempt."""
        if self == STEADY:
            return None
        return Retry(attempts_max=self.attempts_max, delay_s=delay_s, delay_max_s=3 * delay_s)


STEADY = Flaky()


@attrs.frozen(eq=False)
class _Tries:
    """The attempts of the calls of one step."""

    flaky: Flaky
    pause_s: float = 0.0
    """The duration of a failing attempt of a stream."""
    counter: AttemptCounter = attrs.field(factory=AttemptCounter)

    async def work(self) -> None:
        """Raise FlakyError as long as the call has to fail."""
        if self.counter.next() <= self.flaky.failures:
            await trio.sleep(self.pause_s)
            raise FlakyError("told to fail for now")


@attrs.frozen
class Value:
    """A step that mixes values into one, after `delay_s`; without delay if it is plain."""

    reads: tuple[int, ...]
    delay_s: float
    fails: bool = False
    plain: bool = False
    timeout_s: float | None = None
    flaky: Flaky = STEADY


@attrs.frozen
class Source:
    """A stream of numbered chunks, each its delay after the one before."""

    reads: tuple[int]
    delays_s: tuple[float, ...]
    empty: int = 0
    """The number of empty chunks before the others, without delay."""
    fails: bool = False
    first_chunk_s: float | None = None
    idle_s: float | None = None
    flaky: Flaky = STEADY
    """Failures come before the first chunk, at the time of the first chunk with text."""

    @property
    def pause_s(self) -> float:
        """The duration of a failing attempt, and the longest wait before the second."""
        return self.delays_s[0] if self.delays_s else 0.125


@attrs.frozen
class Through:
    """A stream step that reads a stream and gives a chunk for each, after `delay_s`."""

    reads: tuple[int]
    delay_s: float


@attrs.frozen
class Fold:
    """A step that reads streams to their ends, one after the other, and gives a value."""

    reads: tuple[int, ...]


@attrs.frozen
class Peek:
    """A step that gives the first `most` chunks of a stream, and leaves it."""

    reads: tuple[int]
    most: int


@attrs.frozen
class Gather:
    """A stream, collected."""

    reads: tuple[int]


@attrs.frozen
class Racing:
    """A race of values, or of streams."""

    reads: tuple[int, ...]
    stagger_s: float
    commit: Commit = FIRST_CONTENT
    picky: bool = False
    """Whether it refuses some values of its arms: see `is_accepted`."""


@attrs.frozen
class Falling:
    """A fallback."""

    reads: tuple[int, ...]
    commit: Commit = FIRST_CONTENT
    picky: bool = False
    catches: bool = True
    """Whether the next arm is tried after errors of the sketch's steps."""
    restart: bool = False
    """Whether that also holds after the commit; only for a stream that is the output."""


@attrs.frozen
class Routing:
    """A route on the first part's value; the others are the arms."""

    reads: tuple[int, ...]


@attrs.frozen
class Eaching:
    """A body for each of `count` items made from the first value; all read the second."""

    reads: tuple[int, int]
    count: int
    delay_s: float
    at_once: int
    ordered: bool = True
    body: Body = "value"


@attrs.frozen
class EachingStream:
    """A step for each chunk of a stream."""

    reads: tuple[int]
    delay_s: float
    at_once: int
    ordered: bool = True


Part: TypeAlias = (
    Value
    | Source
    | Through
    | Fold
    | Peek
    | Gather
    | Racing
    | Falling
    | Routing
    | Agreeing
    | Judging
    | Eaching
    | EachingStream
)
STREAMING = (Source, Through, EachingStream)


@attrs.frozen
class Sketch:
    """Parts, each reading earlier ones; the last is the output. Part -1 is the input `n`."""

    parts: tuple[Part, ...]

    def streams(self, number: int) -> bool:
        """Whether the part gives a stream."""
        part = self.parts[number] if number >= 0 else None
        if isinstance(part, Racing | Falling):
            return self.streams(part.reads[0])
        if isinstance(part, Routing):
            return self.streams(part.reads[1])
        return isinstance(part, STREAMING)


def build(sketch: Sketch, name: str = "sketch") -> Pipeline[..., object]:
    """The pipeline that a sketch describes."""
    needed = _needed(sketch)

    def define(n: int) -> object:
        wires: dict[int, Any] = {-1: n}
        for number in needed:
            part = sketch.parts[number]
            wires[number] = _wire(part, [wires[read] for read in part.reads])
        return wires[len(sketch.parts) - 1]

    return pipeline(name=name)(define)


def _needed(sketch: Sketch) -> list[int]:
    """The parts that the last one needs, in order."""
    needed = {len(sketch.parts) - 1}
    for number in reversed(range(len(sketch.parts))):
        if number in needed:
            needed |= {read for read in sketch.parts[number].reads if read >= 0}
    return sorted(needed)


def _wire(part: Part, reads: list[Any]) -> object:
    match part:
        case Value() if part.plain:
            return _plain(reads, part.fails)
        case Value():
            retry = part.flaky.retry(part.delay_s)
            timed = _value.using(Policy(timeout_s=part.timeout_s, retry=retry))
            return timed(reads, part.delay_s, part.fails, _Tries(part.flaky))
        case Source():
            retry = part.flaky.retry(part.pause_s)
            policy = Policy(first_chunk_s=part.first_chunk_s, idle_s=part.idle_s, retry=retry)
            source, tries = _source.using(policy), _Tries(part.flaky, part.pause_s)
            return source(reads[0], part.delays_s, part.empty, part.fails, tries)
        case Racing():
            validate = is_accepted if part.picky else None
            return race(*reads, stagger_s=part.stagger_s, commit=part.commit, validate=validate)
        case Falling():
            validate = is_accepted if part.picky else None
            on = Exception if part.catches else LookupError
            return fallback(
                *reads, commit=part.commit, validate=validate, on=on, restart=part.restart
            )
        case Routing():
            return route(_label(reads[0], len(reads) - 1), dict(enumerate(reads[1:])))
        case Agreeing() | Judging():
            return wire_of_poll(part, reads)
        case Fold():
            return _fold(reads)
        case Eaching():
            items, body = _spread(reads[0], part.count), partial(_body, part, reads[1])
            return each(items, body, at_once=part.at_once, ordered=part.ordered)
    return _reader(part, reads[0])


def _reader(part: Part, stream: Any) -> object:
    """A part that reads a stream."""
    match part:
        case Through():
            return _through(stream, part.delay_s)
        case Peek():
            return _peek(stream, part.most)
        case Gather():
            return collect(stream)
        case EachingStream():
            tagged = partial(_tagged, delay_s=part.delay_s)
            return each(stream, tagged, at_once=part.at_once, ordered=part.ordered)
    raise AssertionError(f"no such part: {part}")  # pragma: no cover - all are above


def _body(part: Eaching, shared: Any, item: Any) -> Any:
    """The body of an `each`: for every kind, its value is that of `item` and `shared`."""
    delay_s = part.delay_s
    value = _value([item, shared], delay_s, part.body == "fails")
    match part.body:
        case "race":
            return race(value, _value([item], 3 * delay_s, fails=False))
        case "fallback":
            return fallback(_value([item], delay_s, fails=True), value)
        case "route":
            return route(_label(item, 2), {0: value, 1: _plain([item, shared], fails=False)})
        case "stream":
            return _fold([_source(value, (delay_s, delay_s), 0, fails=False)])
    return value


@step(name="value")
async def _value(reads: list[Any], delay_s: float, fails: bool, tries: _Tries | None = None) -> int:
    await trio.sleep(delay_s)
    if tries is not None:
        await tries.work()
    if fails:
        raise SketchError("told to fail")
    return mix(*reads)


@step(name="plain")
def _plain(reads: list[Any], fails: bool) -> int:
    if fails:
        raise SketchError("told to fail")
    return mix(*reads)


@step(name="source")
async def _source(
    value: Any,
    delays_s: tuple[float, ...],
    empty: int,
    fails: bool,
    tries: _Tries | None = None,
) -> AsyncIterator[str]:
    if tries is not None:
        await tries.work()
    for _ in range(empty):
        yield ""
    for index, delay_s in enumerate(delays_s):
        await trio.sleep(delay_s)
        yield chunk_of_source(mix(value), index)
    if fails:
        raise SketchError("told to fail after its last chunk")


@step(name="through")
async def _through(chunks: Stream[str], delay_s: float) -> AsyncIterator[str]:
    async for chunk in chunks:
        await trio.sleep(delay_s)
        yield chunk.upper()


@step(name="fold")
async def _fold(streams: list[Stream[str]]) -> int:
    total = 0
    for chunks in streams:
        async for chunk in chunks:
            total = mix(total, chunk)
    return total


@step(name="peek")
async def _peek(chunks: Stream[str], most: int) -> int:
    total = 0
    async for chunk in chunks:
        total = mix(total, chunk)
        most -= 1
        if not most:
            break
    return total


@step(name="label")
def _label(value: Any, arms: int) -> int:
    return mix(value) % arms


@step(name="spread")
def _spread(value: Any, count: int) -> list[int]:
    return [mix(value, index) for index in range(count)]


@step(name="tagged")
async def _tagged(chunk: str, delay_s: float) -> str:
    await trio.sleep(delay_s)
    return chunk + "."
