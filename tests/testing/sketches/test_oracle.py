"""The oracle, by hand: it is what the engine is compared with, so it is checked by examples."""

from __future__ import annotations

import pytest

from orchestra.graph.rules.commits import Chars, Chunks, Complete
from tests.testing.sketches.mixing import chunk_of_source, is_accepted, mix
from tests.testing.sketches.oracle import Bad, Ok, Tie, foresee
from tests.testing.sketches.polls import Agreeing, Judging, alike, best
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

N = 3
FIRST, SECOND = mix(N), mix(mix(N))
A, B = chunk_of_source(mix(N), 0), chunk_of_source(mix(N), 1)

OTHER = mix(N, N)
LIKE = alike(FIRST, OTHER)
THREE = [Value((-1,), 2), Value((-1, -1), 3), Value((-1,), 5)]
FAILING = [Value((-1,), 1, fails=True), Value((-1,), 3), Value((-1,), 9, fails=True)]


def source(*delays_s: float, empty: int = 0, fails: bool = False) -> Source:
    return Source((-1,), delays_s, empty, fails)


def item(index: int) -> int:
    return mix(mix(N, index), N)


def fold(*chunks: str) -> int:
    total = 0
    for chunk in chunks:
        total = mix(total, chunk)
    return total


@pytest.mark.parametrize(
    ("parts", "foreseen"),
    [
        ([Value((-1,), 2)], Ok(2, FIRST)),
        ([Value((-1,), 2, plain=True)], Ok(0, FIRST)),
        ([Value((-1,), 2, fails=True)], Bad(2)),
        ([Value((-1,), 2, fails=True, plain=True)], Bad(0)),
        ([Value((-1,), 2, timeout_s=1.5)], Bad(1.5)),
        ([Value((-1,), 2, timeout_s=2.5)], Ok(2, FIRST)),
        ([Value((-1,), 2), Value((0,), 3)], Ok(5, SECOND)),
        ([Value((-1,), 2), Value((-1,), 9, fails=True), Value((0, 1), 3)], Bad(9)),
        ([source(1, 2)], Ok(3, A + B)),
        ([source(1, 2, fails=True)], Bad(3)),
        ([Source((-1,), (1, 2), idle_s=1.5)], Bad(2.5)),
        ([Source((-1,), (1, 2), first_chunk_s=0.5)], Bad(0.5)),
        ([Source((-1,), (1, 2), empty=1, first_chunk_s=0.5)], Ok(3, A + B)),
        ([Value((-1,), 2, flaky=Flaky(1, 2))], Ok(2 + 2 + 2, FIRST)),
        ([Value((-1,), 2, flaky=Flaky(1, 1))], Bad(2)),
        ([Value((-1,), 2, flaky=Flaky(9, 4))], Bad(2 + 2 + 2 + 4 + 2 + 6 + 2)),
        ([Value((-1,), 2, fails=True, flaky=Flaky(1, 3))], Bad(2 + 2 + 2)),
        ([Value((-1,), 2, timeout_s=7, flaky=Flaky(1, 2))], Ok(6, FIRST)),
        ([Value((-1,), 2, timeout_s=5, flaky=Flaky(1, 2))], Bad(5)),
        ([Value((-1,), 2, timeout_s=3, flaky=Flaky(1, 2))], Bad(2)),
        ([Value((-1,), 2, timeout_s=1, flaky=Flaky(1, 2))], Bad(1)),
        ([Source((-1,), (1, 2), flaky=Flaky(1, 2))], Ok(1 + 1 + 3, A + B)),
        ([Source((-1,), (1, 2), empty=1, fails=True, flaky=Flaky(1, 3))], Bad(1 + 1 + 3)),
        ([Source((-1,), (1, 2), flaky=Flaky(2, 2))], Bad(1 + 1 + 1)),
        ([Source((-1,), (1, 2), first_chunk_s=0.5, flaky=Flaky(0, 2))], Bad(0.5 + 1 + 0.5)),
        ([Source((-1,), (1, 2), idle_s=1.5, flaky=Flaky(0, 3))], Bad(2.5)),
        ([source(1, 2), Gather((0,)), Value((1,), 1)], Ok(4, mix(A + B))),
        ([source(1, 2), Fold((0,))], Ok(3, fold(A, B))),
        ([source(1, 2), Peek((0,), 1)], Ok(1, fold(A))),
        ([source(1, 2), Peek((0,), 5)], Ok(3, fold(A, B))),
        ([source(1, 2), Through((0,), 3)], Ok(7, A.upper() + B.upper())),
        ([source(1, 2), EachingStream((0,), 3, 1)], Ok(7, f"{A}.{B}.")),
        ([source(1, 2), EachingStream((0,), 3, 2)], Ok(6, f"{A}.{B}.")),
        ([Eaching((-1, -1), 3, 2, 2)], Ok(4, [item(n) for n in range(3)])),
        ([Eaching((-1, -1), 0, 2, 2)], Ok(0, [])),
        ([Eaching((-1, -1), 2, 2, 2, body="fallback")], Ok(4, [item(n) for n in range(2)])),
        ([Eaching((-1, -1), 2, 2, 1, body="race")], Ok(4, [item(n) for n in range(2)])),
        ([Eaching((-1, -1), 2, 2, 2, body="fails")], Bad(2)),
        ([Value((-1,), 2), Value((-1,), 3), Racing((0, 1), 0)], Ok(2, FIRST)),
        ([Value((-1,), 3, fails=True), Value((-1,), 2), Racing((0, 1), 2)], Ok(4, FIRST)),
        ([Value((-1,), 1, fails=True), Value((-1,), 2), Racing((0, 1), 2)], Ok(3, FIRST)),
        ([Value((-1,), 1, fails=True), Value((-1,), 2), Falling((0, 1))], Ok(3, FIRST)),
        ([Value((-1,), 1, fails=True), Value((-1,), 2, fails=True), Falling((0, 1))], Bad(3)),
        ([source(5, empty=1), source(1, 9), Racing((0, 1), 0)], Ok(10, A + B)),
        ([source(1, 2, fails=True), source(9), Racing((0, 1), 0)], Bad(3)),
        ([source(empty=2), source(1), Falling((0, 1))], Ok(1, A)),
        ([source(1, 2, fails=True), source(1, 1), Falling((0, 1), Complete())], Ok(5, A + B)),
        ([source(1, fails=True), source(9), Falling((0, 1), restart=True)], Ok(10, A)),
        ([source(1, fails=True), source(9, fails=True), Falling((0, 1), restart=True)], Bad(10)),
        ([source(1, fails=True), source(9), Falling((0, 1))], Bad(1)),
        ([source(1, 2, fails=True), source(1, 1), Falling((0, 1), Chunks(2))], Bad(3)),
        ([source(1, 5), source(2, 1), Racing((0, 1), 0, Chars(2))], Ok(3, A + B)),
        ([source(1, 5), source(2, 1), Racing((0, 1), 0, Chunks(9))], Ok(3, A + B)),
        ([Value((-1,), 1, fails=True), Value((-1,), 2), Falling((0, 1), catches=False)], Bad(1)),
        (
            [Value((-1,), 1), Falling((0,), picky=True)],
            Ok(1, FIRST) if is_accepted(FIRST) else Bad(1),
        ),
        ([source(1, 2), Falling((0,), picky=True)], Ok(3, A + B) if is_accepted(A) else Bad(1)),
        ([*THREE, Agreeing((0, 1, 2), 2)], Ok(5, FIRST)),
        ([*THREE, Agreeing((0, 1, 2), 3)], Bad(3)),
        ([*THREE, Agreeing((0, 1, 2), 1)], Ok(2, FIRST)),
        ([*THREE, Agreeing((0, 1, 2), 2, loosely=True)], Ok(3 if LIKE else 5, FIRST)),
        ([*FAILING, Agreeing((0, 1, 2), 2)], Bad(9)),
        ([*FAILING, Agreeing((0, 1), 1)], Ok(3, FIRST)),
        ([Value((-1,), 2), Agreeing((0, 0, 0), 3)], Ok(2, FIRST)),
        ([*THREE, Agreeing((0, 2, 1), 2, stagger_s=3)], Ok(5, FIRST)),
        ([*THREE, Agreeing((0, 1, 2), 2, stagger_s=2)], Ok(7, FIRST)),
        ([*THREE, Agreeing((0, 1, 2), 2, stagger_s=9)], Ok(8, FIRST)),
        ([*THREE, Agreeing((0, 1, 1, 2), 3, stagger_s=9)], Bad(8)),
        ([*THREE, Agreeing((0, 1, 2, 2), 3, stagger_s=9)], Ok(5, FIRST)),
        ([*THREE, Agreeing((0, 1, 1), 3, stagger_s=9)], Bad(3)),
        ([*FAILING, Agreeing((0, 1), 1, stagger_s=9)], Ok(4, FIRST)),
        ([*THREE, Judging((0, 1, 2))], Ok(5, [FIRST, OTHER, FIRST][best([FIRST, OTHER, FIRST])])),
        ([*THREE, Judging((0, 2), delay_s=4)], Ok(9, FIRST)),
        ([*THREE, Judging((0, 2), delay_s=4, fails=True)], Bad(9)),
        ([*THREE, Judging((0, 2), fails=True)], Bad(5)),
        ([*FAILING, Judging((0, 1))], Ok(3, FIRST)),
        ([*FAILING, Judging((0, 1), least=2)], Bad(1)),
        ([Value((-1,), 1), Value((-1,), 9), Value((-1,), 2), Routing((0, 1, 2))], None),
        ([Value((-1,), 1, fails=True), Value((-1,), 9), Routing((0, 1))], Bad(1)),
    ],
)
def test_what_a_sketch_comes_to(parts: list[Part], foreseen: Ok | Bad | None) -> None:
    if foreseen is None:  # the label is mix(FIRST) % 2
        foreseen = Ok([1 + 9, 1 + 2][mix(FIRST) % 2], FIRST)
    assert foresee(Sketch(tuple(parts)), N) == foreseen


@pytest.mark.parametrize(
    "parts",
    [
        [Value((-1,), 2), Value((-1,), 2), Racing((0, 1), 0)],
        [Value((-1,), 2), Value((-1,), 2, fails=True), Racing((0, 1), 0)],
        [Value((-1,), 2), Value((-1,), 5), Racing((0, 1), 2)],
        [source(1, 0), EachingStream((0,), 3, 2, ordered=False)],
        [Value((-1,), 2), Value((-1, -1), 2), Agreeing((0, 1), 1)],
    ],
)
def test_the_oracle_says_nothing_where_the_schedule_decides(parts: list[Part]) -> None:
    with pytest.raises(Tie, match=r"both at|in one moment|which arms agree"):
        foresee(Sketch(tuple(parts)), N)


def test_a_stream_that_only_losers_read_need_not_come_to_its_failure() -> None:
    """Its readers are stopped with their arm, and then it is stopped itself."""
    parts = (
        source(1, 1, 1, fails=True),
        Fold((0,)),
        Gather((0,)),
        Value((2,), 1),
        Value((-1,), 0.5),
        Racing((4, 1, 3), 0),
        Value((5,), 9),
    )
    with pytest.raises(Tie, match="a reader may be stopped while the stream goes on"):
        foresee(Sketch(parts), N)
