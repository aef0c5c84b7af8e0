"""Iterators where a value has several readers: an iterator is empty for the second reader."""

from __future__ import annotations

from collections.abc import Iterator
from io import IOBase
from itertools import islice
from typing import TypeGuard

from orchestra.annotations.acceptance import is_of
from orchestra.annotations.facts import spell
from orchestra.compiler.blocks.rereading import reread
from orchestra.compiler.plan import Plan
from orchestra.errors import InputError
from orchestra.graph.nodes import Input
from orchestra.graph.rules.policy import Limits


def is_iterator(value: object) -> TypeGuard[Iterator[object]]:
    """Whether the value can be iterated only once; not so a file, which can be read again."""
    if not hasattr(type(value), "__next__"):  # decides for nearly every value
        return False
    return isinstance(value, Iterator) and not isinstance(value, IOBase)


def readable_again(plan: Plan, node: Input, value: Iterator[object], limits: Limits) -> object:
    """The input itself if it is read once; else a list of its items.

    Raises:
        InputError: its annotation does not accept a list; or it has more than `each_items` items.
    """
    block, name = plan.block, node.name
    slot = next((slot for slot, named in block.inputs if named == name), -1)
    readers = reread(block, slot)
    if not readers:
        return value
    message = (
        f"input {name!r} of pipeline {plan.pipeline.name!r} was given {value!r:.200}, which can be "
        f"iterated only once, and has several readers: {', '.join(readers)}"
    )
    if not is_of(node.annotation, []):
        raise InputError(
            f"{message}; annotate it as a Sequence or list, not {spell(node.annotation)}, and pass "
            "a list",
            field=name,
        )
    items = list(islice(value, limits.each_items + 1))  # it may be endless
    if len(items) > limits.each_items:
        raise InputError(
            f"{message}; it gives more than the {limits.each_items} items of "
            "Limits(each_items=...): pass a list",
            field=name,
        )
    return items
