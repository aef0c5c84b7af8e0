"""The oracle: predicts the result of a sketch and its time, by plain recursion over its parts.

It knows no tasks and no channels. A value is a pair of time and value. A stream is the list
of its chunks with their times, and its end; an event that never comes has the time infinity.
Edges never fill. It predicts only what the times decide: if two arms of a race have content at
the same moment, or the schedule alone decides otherwise, it raises `Tie`.
"""

from __future__ import annotations

from functools import reduce
from math import inf
from typing import TypeAlias, cast

import attrs

from orchestra.graph.rules.commits import Chars, Chunks, Commit, FirstContent
from tests.testing.sketches.homes import Arm, homes_of
from tests.testing.sketches.mixing import chunk_of_source, is_accepted, mix
from tests.testing.sketches.polls import Agreeing, Heard, Judging, next_starts, ways
from tests.testing.sketches.sketches import (
    Eaching,
    EachingStream,
    Falling,
    Flaky,
    Fold,
    Gather,
    Part,
    Peek,
    Racing,
    Routing,
    Sketch,
    Source,
    Through,
    Value,
)


class Tie(Exception):  # noqa: N818 - a condition, not an error
    """The schedule decides the result, not the times."""


@attrs.frozen
class Ok:
    """A value, and when it exists; at infinity, it never does."""

    at_s: float
    value: object = None


@attrs.frozen
class Bad:
    """A failure, and when it happens."""

    at_s: float


@attrs.frozen
class Flow:
    """A stream: its start, its chunks with their times, its end, and whether that is a failure."""

    start_s: float
    chunks: tuple[tuple[float, str], ...]
    end_s: float
    fails: bool = False


CHOICES = (Racing, Falling, Routing, Agreeing, Judging)
Outcome: TypeAlias = Ok | Bad | Flow
NEVER = Ok(inf)


def foresee(sketch: Sketch, n: int) -> Ok | Bad:
    """The result of a run of the sketch, and the time of its end.

    Raises:
        Tie: it depends on the schedule.
    """
    result = _Oracle(sketch, n).region(None, len(sketch.parts) - 1, 0.0)
    if not isinstance(result, Flow):
        return result
    if result.fails:
        return Bad(result.end_s)
    return Ok(result.end_s, "".join(chunk for _, chunk in result.chunks))


class _Oracle:
    def __init__(self, sketch: Sketch, n: int) -> None:
        self.sketch = sketch
        self.known: dict[int, Outcome] = {-1: Ok(0.0, n)}
        self.homes = homes_of(sketch)
        self.gates: dict[Arm | None, float] = {}

    def region(self, arm: Arm | None, outlet: int, start_s: float) -> Outcome:
        """The outcome of a region that is started at this time."""
        self.gates[arm] = start_s
        members = [number for number, home in self.homes.items() if home == arm]
        outcomes = [self.part(number) for number in members]
        failures = [o.at_s for o in outcomes if isinstance(o, Bad)]
        for number, outcome in zip(members, outcomes, strict=True):
            if isinstance(outcome, Flow) and outcome.fails:
                self._read_to_its_end(number)
                failures.append(outcome.end_s)
        fail_s = min(failures, default=inf)
        result = self.part(outlet)
        if isinstance(result, Flow):
            if fail_s <= result.end_s and fail_s < inf:
                # its own failure comes after its last chunk, even at the same time
                own = result.fails and result.end_s == fail_s
                before = tuple(pair for pair in result.chunks if pair[0] < fail_s or own)
                return Flow(result.start_s, before, fail_s, fails=True)
            return result
        at_s = result.at_s
        _distinct(at_s, fail_s, when=isinstance(result, Ok))
        return Bad(fail_s) if fail_s <= at_s and fail_s < inf else result

    def part(self, number: int) -> Outcome:
        """The outcome of a part, in the regions started so far."""
        if number not in self.known:
            part = self.sketch.parts[number]
            self.known[number] = self._part(part, number, self.gates[self.homes[number]])
        return self.known[number]

    def _part(self, part: Part, number: int, gate_s: float) -> Outcome:
        if isinstance(part, Racing | Falling):
            return self._race(part, number, gate_s)
        if isinstance(part, Routing):
            return self._route(part, number, gate_s)
        if isinstance(part, Agreeing | Judging):
            return self._poll(part, number, gate_s)
        sources = [self.part(read) for read in part.reads]
        if any(isinstance(source, Bad) for source in sources):
            return _never(self.sketch.streams(number))
        start_s = max(gate_s, *(_there_s(source) for source in sources))
        if start_s == inf:
            return _never(self.sketch.streams(number))
        values = [source.value for source in sources if isinstance(source, Ok)]
        match part:
            case Value():
                return _value(part, start_s, values)
            case Source():
                return _source(part, start_s, mix(*values))
            case Eaching():
                return _each(part, start_s, values)
            case Fold():
                return _folded(*cast("list[Flow]", sources))
        return _of_stream(part, start_s, cast("Flow", sources[0]))

    def _read_to_its_end(self, number: int) -> None:
        """Check that a stream is read to its end: otherwise it is stopped before its failure."""
        for reader, part in enumerate(self.sketch.parts):
            for place, read in enumerate(part.reads if reader in self.homes else ()):
                if read != number:
                    continue
                arm = place - isinstance(part, Routing)
                home = (reader, arm) if isinstance(part, CHOICES) else self.homes[reader]
                if home != self.homes[number]:
                    raise Tie("a reader may be stopped while the stream goes on")
                if self.sketch.streams(reader):
                    self._read_to_its_end(reader)

    def _race(self, part: Racing | Falling, number: int, start_s: float) -> Outcome:
        stagger_s = part.stagger_s if isinstance(part, Racing) else inf
        streams = self.sketch.streams(number)
        due_s, win_s, last_failure_s = start_s, inf, start_s
        winner: Outcome | None = None
        catches = isinstance(part, Racing) or part.catches
        for arm, read in enumerate(part.reads if catches else part.reads[:1]):
            if due_s >= win_s:
                _distinct(due_s, win_s)
                break
            outcome = self.region((number, arm), read, due_s)
            content_s, failure_s = _content(outcome, due_s, part)
            restarts = isinstance(part, Falling) and part.restart and isinstance(outcome, Flow)
            if restarts and content_s < inf and cast("Flow", outcome).fails:
                content_s, failure_s = inf, max(content_s, cast("Flow", outcome).end_s)
            _distinct(content_s, win_s)
            _distinct(failure_s, win_s)
            if content_s < win_s:
                winner, win_s = outcome, content_s
            last_failure_s = max(last_failure_s, failure_s)
            due_s = min(due_s + stagger_s, max(due_s, last_failure_s))
        if winner is None:
            return _failure(start_s, last_failure_s, streams=streams)
        if not isinstance(winner, Flow):
            return Ok(win_s, winner.value if isinstance(winner, Ok) else None)
        first = next(place for place, (_, chunk) in enumerate(winner.chunks) if chunk)
        late = tuple((max(at_s, win_s), chunk) for at_s, chunk in winner.chunks[first:])
        return Flow(start_s, late, max(winner.end_s, win_s), winner.fails)

    def _poll(self, part: Agreeing | Judging, number: int, start_s: float) -> Outcome:
        arms, due_s = list[Heard](), start_s
        for arm, read in enumerate(part.reads if start_s < inf else ()):
            due_s, *ties = next_starts(part, arms, due_s)
            if ties:
                raise Tie("the schedule decides whether another arm starts")
            if due_s == inf:
                break
            outcome = self.region((number, arm), read, due_s)
            assert not isinstance(outcome, Flow), "arms of polls are values"
            value = outcome.value if isinstance(outcome, Ok) else None
            arms.append(Heard(max(outcome.at_s, due_s), value, isinstance(outcome, Bad)))
        arms += [Heard(inf)] * (len(part.reads) - len(arms))
        first, *others = ways(part, arms) if start_s < inf else [Heard(inf)]
        if any(other != first for other in others):
            raise Tie("the schedule decides which arms agree")
        return Bad(first.at_s) if first.fails else Ok(first.at_s, first.value)

    def _route(self, part: Routing, number: int, gate_s: float) -> Outcome:
        streams = self.sketch.streams(number)
        label = self.part(part.reads[0])
        if isinstance(label, Bad) or label == NEVER:
            return _never(streams)
        assert isinstance(label, Ok), "a label is a value"
        start_s = max(gate_s, label.at_s)
        arm = mix(label.value) % (len(part.reads) - 1)
        outcome = self.region((number, arm), part.reads[1 + arm], start_s)
        if isinstance(outcome, Flow):
            late = tuple((max(at_s, start_s), chunk) for at_s, chunk in outcome.chunks)
            return Flow(start_s, late, max(outcome.end_s, start_s), outcome.fails)
        if isinstance(outcome, Ok):
            return Ok(max(outcome.at_s, start_s), outcome.value)
        return _failure(start_s, outcome.at_s, streams=streams)


def _of_stream(part: Part, start_s: float, flow: Flow) -> Outcome:
    """The outcome of a part that reads a stream."""
    match part:
        case Peek():
            return _peeked(flow, part.most)
        case Gather():
            text = "".join(chunk for _, chunk in flow.chunks)
            return Ok(flow.end_s, text) if not flow.fails else NEVER
        case Through():
            return _through(part, start_s, flow)
        case EachingStream():
            return _each_chunk(part, start_s, flow)
    raise AssertionError(f"no such part: {part}")  # pragma: no cover - all are above


def _tried(flaky: Flaky, lasts_s: float, delay_s: float, left_s: float) -> tuple[float, bool]:
    """The duration of all attempts before the last, and whether the last one works.

    A wait that would not end before the deadline, `left_s` from now, is not started.
    """
    spent_s, longest_s = 0.0, delay_s
    for _ in range(min(flaky.failures, flaky.attempts_max - 1)):
        if spent_s + lasts_s + longest_s >= left_s:
            return spent_s, False
        spent_s += lasts_s + longest_s
        longest_s = min(3 * delay_s, 2 * longest_s)
    return spent_s, flaky.failures < flaky.attempts_max


def _value(part: Value, start_s: float, values: list[object]) -> Ok | Bad:
    if part.plain:
        return Bad(start_s) if part.fails else Ok(start_s, mix(*values))
    left_s = inf if part.timeout_s is None else part.timeout_s
    spent_s, works = _tried(part.flaky, part.delay_s, part.delay_s, left_s)
    if left_s < spent_s + part.delay_s:
        return Bad(start_s + left_s)
    end_s = start_s + spent_s + part.delay_s
    return Bad(end_s) if part.fails or not works else Ok(end_s, mix(*values))


def _source(part: Source, start_s: float, value: int) -> Flow:
    flaky, first_s = part.flaky, inf if part.first_chunk_s is None else part.first_chunk_s
    if not part.empty and part.delays_s and first_s < part.delays_s[0]:  # always too late
        flaky = attrs.evolve(flaky, failures=flaky.attempts_max)
    fails_s = min(part.pause_s, first_s)
    spent_s, works = _tried(flaky, fails_s, part.pause_s, inf)
    at_s = start_s + spent_s
    if not works:
        return Flow(start_s, (), at_s + fails_s, fails=True)
    chunks = [(at_s, "")] * part.empty
    for index, delay_s in enumerate(part.delays_s):
        limit_s = part.idle_s if chunks else part.first_chunk_s
        if limit_s is not None and limit_s < delay_s:
            return Flow(start_s, tuple(chunks), at_s + limit_s, fails=True)
        at_s += delay_s
        chunks.append((at_s, chunk_of_source(value, index)))
    return Flow(start_s, tuple(chunks), at_s, part.fails)


def _through(part: Through, start_s: float, flow: Flow) -> Flow:
    at_s, chunks = start_s, []
    for here_s, chunk in flow.chunks:
        at_s = max(at_s, here_s) + part.delay_s
        chunks.append((at_s, chunk.upper()))
    return Flow(start_s, tuple(chunks), inf if flow.fails else max(at_s, flow.end_s))


def _each_chunk(part: EachingStream, start_s: float, flow: Flow) -> Flow:
    """All bodies take the same time, so they end in the order of their starts."""
    there = [max(here_s, start_s) for here_s, _ in flow.chunks]
    ends = _turns(there, [part.delay_s] * len(there), part)
    if not part.ordered and len(set(ends)) < len(ends):
        raise Tie("two bodies end in one moment, and either may be the first")
    chunks = tuple((at_s, chunk + ".") for at_s, (_, chunk) in zip(ends, flow.chunks, strict=True))
    last_s = max(ends, default=start_s)
    return Flow(start_s, chunks, inf if flow.fails else max(last_s, flow.end_s))


def _each(part: Eaching, start_s: float, values: list[object]) -> Ok | Bad:
    items = [mix(values[0], index) for index in range(part.count)]
    if part.body == "fails" and items:
        return Bad(start_s + part.delay_s)
    bodies = [_body(part, item, values[1]) for item in items]
    ends = _turns([start_s] * len(items), [lasts_s for lasts_s, _ in bodies], part)
    return Ok(max(ends, default=start_s), [value for _, value in bodies])


def _body(part: Eaching, item: int, shared: object) -> tuple[float, int]:
    """The duration and the value of an item's body."""
    value, delay_s = mix(item, shared), part.delay_s
    match part.body:
        case "fallback":
            return 2 * delay_s, value
        case "route":
            return (delay_s if mix(item) % 2 == 0 else 0.0), value
        case "stream":
            flow = _source(Source((-1,), (delay_s, delay_s)), delay_s, mix(value))
            folded = _folded(flow)
            return folded.at_s, cast("int", folded.value)
    return delay_s, value


def _turns(there: list[float], lasts: list[float], part: Eaching | EachingStream) -> list[float]:
    """When each item's value is passed on: at most `at_once` are in progress, ordered or not."""
    passed: list[float] = []
    for here_s, lasts_s in zip(there, lasts, strict=True):
        free_s = sorted(passed)[-part.at_once] if len(passed) >= part.at_once else 0.0
        end_s = max(here_s, free_s) + lasts_s
        passed.append(max(end_s, *passed) if part.ordered and passed else end_s)
    return passed


def _folded(*flows: Flow) -> Ok:
    if any(flow.fails for flow in flows):
        return NEVER
    chunks = [chunk for flow in flows for _, chunk in flow.chunks]
    return Ok(max(flow.end_s for flow in flows), reduce(mix, chunks, 0))


def _peeked(flow: Flow, most: int) -> Ok:
    if len(flow.chunks) < most:
        return _folded(flow)
    chunks = flow.chunks[:most]
    return _folded(Flow(flow.start_s, chunks, chunks[-1][0]))


def _content(outcome: Outcome, due_s: float, part: Racing | Falling) -> tuple[float, float]:
    """When an arm may commit, and when it fails before that; infinity for never."""
    if isinstance(outcome, Ok):
        at_s = max(outcome.at_s, due_s)
        refused = part.picky and at_s < inf and not is_accepted(outcome.value)
        return (inf, at_s) if refused else (at_s, inf)
    if isinstance(outcome, Bad):
        return inf, max(outcome.at_s, due_s)
    content_s, said = _enough(outcome, part.commit)
    if content_s < inf:
        at_s = max(content_s, due_s)
        return (inf, at_s) if part.picky and not is_accepted(said) else (at_s, inf)
    return inf, max(outcome.end_s, due_s)


def _enough(flow: Flow, rule: Commit) -> tuple[float, str]:
    """When a stream meets the rule, or ends with content; and its content until then."""
    said, count = "", 0
    for at_s, chunk in flow.chunks:
        said, count = said + chunk, count + bool(chunk)
        match rule:
            case FirstContent() if said:
                return at_s, said
            case Chunks() if count == rule.count:
                return at_s, said
            case Chars() if len(said) >= rule.count:
                return at_s, said
    return (flow.end_s if said and not flow.fails else inf), said


def _there_s(source: Outcome) -> float:
    """When a part can be read: a value when it exists, a stream when it starts."""
    return source.start_s if isinstance(source, Flow) else source.at_s


def _never(streams: bool) -> Outcome:
    return Flow(inf, (), inf) if streams else NEVER


def _failure(start_s: float, at_s: float, *, streams: bool) -> Outcome:
    return (
        Flow(start_s, (), at_s, fails=at_s < inf) if streams else Bad(at_s) if at_s < inf else NEVER
    )


def _distinct(one_s: float, other_s: float, *, when: bool = True) -> None:
    if when and one_s == other_s and one_s < inf:
        raise Tie(f"both at {one_s}")
