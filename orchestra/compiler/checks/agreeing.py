"""What can be wrong with a quorum or a `best_of`: arms that stream, or can never agree."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from orchestra.annotations.facts import MISSING, Fit, chunk_of, compare, spell
from orchestra.graph.control.agreeing import Comparison, Quorum
from orchestra.graph.nodes import type_of
from orchestra.graph.wires import spelled
from orchestra.problem import Problem


def comparison_problems(node: Comparison) -> Iterator[Problem]:
    """Each arm that streams; and of a quorum by equality, two arms that can never be equal."""
    streaming = False
    for arm, name in zip(node.arms, node.arm_names, strict=True):
        kind = type_of(arm)
        if kind is not MISSING and chunk_of(kind) is not None:
            streaming = True
            message = f"{node.label}(arm {name}) is {spell(kind)}, but whole answers are compared"
            fix = f"collect({spelled(arm)})"
            yield Problem("stream-into-value", node.origin.where, message, fix)
    if not streaming and isinstance(node, Quorum) and node.agree is None:
        yield from _never_equal(node)


def _never_equal(node: Quorum) -> Iterator[Problem]:
    named = [(name, type_of(arm)) for name, arm in zip(node.arm_names, node.arms, strict=True)]
    for (name, kind), (other, its) in combinations(named, 2):
        if kind is MISSING or its is MISSING:
            continue
        if compare(kind, its) is compare(its, kind) is Fit.CANNOT:
            message = f"quorum: arm {name} is {spell(kind)} and arm {other} is {spell(its)}, "
            message += "which are never equal"
            fix = "convert them to one type in a step, or say when they agree: agree=..."
            yield Problem("type-clash", node.origin.where, message, fix)
            return
