"""Homes: the arm of a choice that each part of a sketch belongs to, found by removing arms."""

from __future__ import annotations

from typing import TypeAlias

from tests.testing.sketches.polls import Agreeing, Judging
from tests.testing.sketches.sketches import Falling, Racing, Routing, Sketch

Arm: TypeAlias = tuple[int, int]
"""The number of a choice in the sketch, and the index of one of its arms."""


def homes_of(sketch: Sketch) -> dict[int, Arm | None]:
    """For each needed part, the innermost arm that alone needs it, found by removing arms."""
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
        # the owner of the innermost arm is inside all the others
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
