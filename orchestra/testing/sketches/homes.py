"""Homes: in which arm of a choice each part of a sketch belongs, found by trying without it."""

from __future__ import annotations

from typing import TypeAlias

from orchestra.testing.sketches.polls import Agreeing, Judging
from orchestra.testing.sketches.sketches import Falling, Racing, Routing, Sketch

Arm: TypeAlias = tuple[int, int]
"""A choice, by its number in the sketch, and the number of one of its arms."""


def homes_of(sketch: Sketch) -> dict[int, Arm | None]:
    """The innermost arm that each needed part is only needed by, by trying without it."""
    output = len(sketch.parts) - 1
    arms = [
        (number, arm)
        for number, part in enumerate(sketch.parts)
        if isinstance(part, Racing | Falling | Routing | Agreeing | Judging)
        for arm in range(len(part.reads) - isinstance(part, Routing))
    ]
    without = {arm: _reached(sketch, output, arm) for arm in arms}
    homes: dict[int, Arm | None] = {}
    for number in _reached(sketch, output, None):
        holding = [arm for arm in arms if number not in without[arm]]
        # the innermost is the one whose owner lies in all the others
        homes[number] = max(
            holding,
            key=lambda arm: sum(arm[0] not in without[other] for other in holding),
            default=None,
        )
    return homes


def _reached(sketch: Sketch, output: int, cut: Arm | None) -> set[int]:
    reached, todo = {output}, [output]
    while todo:
        number = todo.pop()
        part = sketch.parts[number]
        for place, read in enumerate(part.reads):
            arm = place - isinstance(part, Routing)
            if read >= 0 and read not in reached and cut != (number, arm):
                reached.add(read)
                todo.append(read)
    return reached
