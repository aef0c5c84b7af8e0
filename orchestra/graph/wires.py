"""Wires: what a pipeline's function handles instead of values while it is being defined.

A wire says "the value that this node will have". It can be passed to steps, and
its attributes and items can be named (`passage.text`, `pair[0]`): that is recorded
as a path and read when the value exists. Everything that needs a value now (`if`,
`==`, `len`, an f-string) is refused with the wrong line and the right one.
"""

from __future__ import annotations

import linecache
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import attrs

from orchestra.errors import DefinitionError

if TYPE_CHECKING:
    from orchestra.graph.nodes import Node

_HOUSE = str(Path(__file__).parent.parent) + os.sep
_VISITORS = (str(Path(__file__).parent.parent / "testing") + os.sep,)


@attrs.frozen
class Attribute:
    """`.name` on a wire."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


@attrs.frozen
class Item:
    """`[key]` on a wire."""

    key: object

    def __str__(self) -> str:
        return f"[{self.key!r}]"


Path_: TypeAlias = tuple[Attribute | Item, ...]


def source_line() -> tuple[str, int]:
    """File and line of the nearest caller outside orchestra: where the user wrote it."""
    frame = sys._getframe(1)  # noqa: SLF001 - `inspect.stack` reads every source file
    while frame.f_back is not None and _is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _is_ours(filename: str) -> bool:
    return filename.startswith(_HOUSE) and not filename.startswith(_VISITORS)


def place(filename: str, line: int) -> str:
    """`file:line`, relative to the working directory where it lies below it."""
    here = os.getcwd() + os.sep  # noqa: PTH109 - a plain string is what is compared
    return f"{filename.removeprefix(here)}:{line}"


class Wire:
    """The value that a node will have, or a part of it. Not for keeping: only for passing on."""

    __slots__ = ("_node", "_path")
    _node: Node
    _path: Path_

    def __init__(self, node: Node, path: Path_ = ()) -> None:
        object.__setattr__(self, "_node", node)
        object.__setattr__(self, "_path", path)

    def __getattr__(self, name: str) -> Wire:
        if name.startswith("_"):  # what copy, inspect and notebooks probe for
            raise AttributeError(f"a wire has no attribute {name!r}")
        return Wire(self._node, (*self._path, Attribute(name)))

    def __getitem__(self, key: object) -> Wire:
        if isinstance(key, Wire):
            _refuse(self, "be indexed with another wire", _STEP)
        return Wire(self._node, (*self._path, Item(key)))

    def __repr__(self) -> str:
        return f"<wire {spelled(self)}>"

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        _refuse(self, "be tested", _ROUTE)

    def __eq__(self, other: object) -> bool:
        _refuse(self, "be compared", _ROUTE)

    def __ne__(self, other: object) -> bool:
        _refuse(self, "be compared", _ROUTE)

    def __contains__(self, item: object) -> bool:
        _refuse(self, "be searched with `in`", _STEP)

    def __iter__(self) -> NoReturn:
        _refuse(self, "be iterated", _EACH)

    def __len__(self) -> int:
        _refuse(self, "be counted with `len`", _STEP)

    def __str__(self) -> str:
        _refuse(self, "be turned into text", _PROMPT)

    def __format__(self, spec: str) -> str:
        _refuse(self, "be formatted", _PROMPT)

    def __call__(self, *_: object, **__: object) -> NoReturn:
        _refuse(self, "be called", _METHOD)

    def __await__(self) -> NoReturn:
        _refuse(self, "be awaited", _NO_AWAIT)

    def __aiter__(self) -> NoReturn:
        _refuse(self, "be iterated", _EACH)

    def __setattr__(self, name: str, value: object) -> None:
        _refuse(self, "be changed", _STEP)

    def __setitem__(self, key: object, value: object) -> None:
        _refuse(self, "be changed", _STEP)


_ROUTE = "route({wire}, {{...: ..., ...: ...}})  # each arm runs only if it is taken"
_EACH = "each({wire}, some_step, at_once=8)  # some_step runs once for each item"
_PROMPT = 'prompt("... {{name}} ...", name={wire})  # filled in when the value exists'
_STEP = "some_step({wire})  # with `@step def some_step(value): ...` doing it"
_METHOD = "some_step({wire})  # a method is called inside a step, where the value exists"
_NO_AWAIT = "{wire}  # just pass it on: whoever reads it waits for it"

_ARITHMETIC = (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow "
    "matmul rmatmul and rand or ror xor rxor lshift rlshift rshift rrshift "
    "neg pos abs invert int float index complex round lt le gt ge"
).split()


def _arithmetic(self: Wire, *_: object) -> NoReturn:
    _refuse(self, "be calculated or compared with", _STEP)


for _operator in _ARITHMETIC:
    setattr(Wire, f"__{_operator}__", _arithmetic)


def _refuse(wire: Wire, act: str, right: str) -> NoReturn:
    filename, line = source_line()
    name = spelled(wire)
    wrong = linecache.getline(filename, line).strip()
    raise DefinitionError(
        f"{place(filename, line)}: `{name}` cannot {act}: it has no value while the pipeline "
        "is being defined\n"
        + (f"    wrong: {wrong}\n" if wrong else "")
        + f"    right: {right.format(wire=name)}"
    )


def spelled(wire: Wire) -> str:
    """The wire as its pipeline would write it: `question`, `classify(...).name`."""
    return wire._node.spelled + "".join(map(str, wire._path))  # noqa: SLF001


def node_of(wire: Wire) -> Node:
    """The node whose value the wire will carry."""
    return wire._node  # noqa: SLF001 - a wire's own attributes are the user's


def path_of(wire: Wire) -> Path_:
    """Which part of the node's value the wire carries; empty for all of it."""
    return wire._path  # noqa: SLF001
