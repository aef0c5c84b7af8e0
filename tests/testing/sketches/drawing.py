"""Sketches, drawn by Hypothesis: random pipelines, which are finite and shrink well."""

from __future__ import annotations

import attrs
from hypothesis import strategies as st

from orchestra.graph.rules.commits import FIRST_CONTENT, Chars, Chunks, Commit, Complete
from tests.testing.sketches.polls import Agreeing, Judging, Poll
from tests.testing.sketches.sketches import (
    BODIES,
    STEADY,
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

Draw = st.DrawFn


@st.composite
def sketches(draw: Draw, *, most: int = 10, fails: bool = False) -> Sketch:
    """Random pipelines: values, streams, tees, routes, races, fallbacks and each.

    With `fails`, some steps fail or are too slow for their deadlines. Without it, some readers
    leave their streams early, and deadlines exist but are long enough.
    """
    parts: list[Part] = []
    for _ in range(draw(st.integers(1, most))):
        parts.append(_part(draw, Sketch(tuple(parts)), fails=fails))
    last = parts[-1]
    if isinstance(last, Falling) and Sketch(tuple(parts)).streams(len(parts) - 1):
        parts[-1] = attrs.evolve(last, restart=draw(st.booleans()))
    return Sketch(tuple(parts))


def commits() -> st.SearchStrategy[Commit]:
    """Commit rules for arms that stream; the default is the likeliest."""
    counts = st.integers(1, 4)
    first = st.just(FIRST_CONTENT)
    return st.one_of(first, first, counts.map(Chunks), counts.map(Chars), st.builds(Complete))


def _delay_s(draw: Draw, number: int) -> float:
    """A delay whose sums with others rarely coincide; exact in binary."""
    return (draw(st.integers(1, 16)) * 64 + number + 1) / 1024


def _limit_s(draw: Draw, longest: int, *, fails: bool) -> float | None:
    """A limit for delays below `longest` grid steps; with `fails`, it may be shorter."""
    if draw(st.integers(0, 3)) > 0:
        return None
    steps = draw(st.integers(1, longest)) if fails else longest
    return (steps * 64 + 0.5) / 1024  # between two delays


def _flaky(draw: Draw, *, fails: bool) -> Flaky:
    """Temporary failures; with `fails`, perhaps one too many. Most steps have none."""
    if draw(st.integers(0, 2)) > 0:
        return STEADY
    failures = draw(st.integers(0, 2))
    return Flaky(failures, draw(st.integers(1 if fails else failures + 1, 3)))


def _each(draw: Draw) -> tuple[int, int, bool]:
    return draw(st.integers(0, 5)), draw(st.integers(1, 3)), draw(st.booleans())


def _poll(draw: Draw, value: st.SearchStrategy[int], delay_s: float, *, failing: bool) -> Poll:
    arms = tuple(draw(st.lists(value, min_size=1, max_size=4)))
    count = draw(st.integers(1, len(arms)))
    if draw(st.booleans()):
        return Agreeing(arms, count, draw(st.booleans()), draw(st.just(0.0) | st.just(delay_s)))
    return Judging(arms, count, draw(st.none() | st.just(delay_s)), failing)


def _part(draw: Draw, sketch: Sketch, *, fails: bool) -> Part:  # noqa: C901 - a case for each kind
    number = len(sketch.parts)
    values = [n for n in range(-1, number) if n < 0 or not sketch.streams(n)]
    flows = [n for n in range(number) if sketch.streams(n)]
    kinds = ["value", "value", "source", "race", "fallback", "route", "each", "poll"]
    kinds += ["through", "fold", "gather", "each_chunk"] if flows else []
    kinds += ["peek"] if flows and not fails else []
    kind = draw(st.sampled_from(kinds))
    # recent parts are read more often, so that graphs get deep
    value = st.sampled_from(values[::-1])
    flow = st.sampled_from(flows[::-1] or [-1])
    failing = fails and draw(st.integers(0, 5)) == 0
    delay_s = _delay_s(draw, number)
    match kind:
        case "value":
            reads = tuple(draw(st.lists(value, min_size=1, max_size=3)))
            if draw(st.integers(0, 4)) == 0:
                return Value(reads, delay_s, failing, plain=True)
            flaky = _flaky(draw, fails=fails)
            longest = 17 * (1, 3, 6)[flaky.failures]  # of its delay, with the longest waits
            limit_s = _limit_s(draw, longest, fails=fails)
            return Value(reads, delay_s, failing, plain=False, timeout_s=limit_s, flaky=flaky)
        case "source":
            delays = draw(st.lists(st.integers(1, 8), max_size=6))
            delays_s = tuple((delay * 64 + number) / 1024 for delay in delays)
            first_chunk_s = _limit_s(draw, 9, fails=fails)
            idle_s = _limit_s(draw, 9, fails=fails)
            empty = draw(st.integers(0, 2))
            read, flaky = draw(value), _flaky(draw, fails=fails)
            return Source((read,), delays_s, empty, failing, first_chunk_s, idle_s, flaky)
        case "through":
            return Through((draw(flow),), delay_s)
        case "fold":
            return Fold(tuple(draw(st.lists(flow, min_size=1, max_size=2))))
        case "gather":
            return Gather((draw(flow),))
        case "peek":
            return Peek((draw(flow),), draw(st.integers(1, 3)))
        case "poll":
            return _poll(draw, value, delay_s, failing=failing)
        case "each":
            reads = (draw(value), draw(value))
            count, at_once, ordered = _each(draw)
            body = "fails" if failing else draw(st.sampled_from(BODIES[:-1]))
            return Eaching(reads, count, delay_s, at_once, ordered, body)
        case "each_chunk":
            _, at_once, ordered = _each(draw)
            return EachingStream((draw(flow),), delay_s, at_once, ordered)
    source = draw(st.sampled_from([value, flow])) if flows else value
    arms = tuple(draw(st.lists(source, min_size=1, max_size=3)))
    if kind == "route":
        return Routing((draw(value), *arms))
    streams = source is not value and sketch.streams(arms[0])
    commit = draw(commits()) if streams else FIRST_CONTENT
    picky = fails and draw(st.integers(0, 3)) == 0
    if kind == "fallback":
        catches = not fails or draw(st.integers(0, 3)) > 0
        return Falling(arms, commit, picky, catches)
    return Racing(arms, draw(st.sampled_from([0.0, delay_s])), commit, picky)
