"""Wires: the placeholders that a pipeline's function handles while it is being defined.

A wire stands for the value that a node will have. It can be passed to steps. Its
attributes and items (`passage.text`, `pair[0]`) are recorded as a path and read when the
value exists. Everything that needs a value now (`if`, `==`, `len`, an f-string) is refused
with a message that shows the wrong line and the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from orchestra.errors import DefinitionError
from orchestra.eventclass import frozen
from orchestra.graph.source.decorated import Decorated, refuse_pipe
from orchestra.graph.source.frames import user_frame

if TYPE_CHECKING:
    from orchestra.graph.nodes import Node


@frozen
class Attribute:
    """`.name` on a wire."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


@frozen
class Item:
    """`[key]` on a wire."""

    key: object

    def __str__(self) -> str:
        return f"[{_sliced(self.key) if isinstance(self.key, slice) else repr(self.key)}]"


def _sliced(key: slice) -> str:
    """A slice as it is written: `1:`, `:3`, `::2`."""
    start, stop, step = (
        "" if end is None else repr(end) for end in (key.start, key.stop, key.step)
    )
    return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"


Path_: TypeAlias = tuple[Attribute | Item, ...]


class Wire:
    """A placeholder for a node's future value, or a part of it; a wire can only be passed on."""

    __slots__ = ("_node", "_path")
    _node: Node
    _path: Path_

    def __init__(self, node: Node, path: Path_ = ()) -> None:
        object.__setattr__(self, "_node", node)
        object.__setattr__(self, "_path", path)

    def __getattr__(self, name: str) -> Wire:
        if name.startswith("_"):  # names that copy, inspect and notebooks probe
            raise AttributeError(f"a wire has no attribute {name!r}")
        return Wire(self._node, (*self._path, Attribute(name)))

    def __getitem__(self, key: object) -> Wire:
        if any(isinstance(part, Wire) for part in _parts_of(key)):
            refuse(self, "be indexed with another wire")
        return Wire(self._node, (*self._path, Item(key)))

    def __repr__(self) -> str:
        return f"<wire {spelled(self)}>"


def _parts_of(key: object) -> Iterator[object]:
    """The parts of a key: `value[a]`, `value[a:b]`, `value[a, b]`."""
    if isinstance(key, slice):
        yield from (key.start, key.stop, key.step)
    elif isinstance(key, tuple):
        for part in key:
            yield from _parts_of(part)
    else:
        yield key


REFUSED: Mapping[str, str] = {
    "be tested": "bool",
    "be compared": "eq ne lt le gt ge",
    "be looked up by": "hash",
    "be searched with `in`": "contains",
    "be iterated": "iter aiter reversed next anext",
    "be counted with `len`": "len length_hint",
    "be turned into text": "str format",
    "be called": "call",
    "be awaited": "await",
    "be changed": "setattr delattr setitem delitem",
    "be entered with `with`": "enter exit aenter aexit",
    "be turned into a number": "int float complex index round trunc floor ceil",
    "be turned into bytes": "bytes fspath",
    "be copied": "reduce reduce_ex",
    "be calculated with": (
        "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod divmod rdivmod "
        "pow rpow matmul rmatmul and rand or ror xor rxor lshift rlshift rshift rrshift "
        "neg pos abs invert"
    ),
}
"""Operations that need a value now, each with the special methods that Python calls for it."""


def _refusing(act: str) -> Callable[..., NoReturn]:
    def refused(self: Wire, *_: object, **__: object) -> NoReturn:
        refuse(self, act)

    return refused


for _act, _operators in REFUSED.items():
    for _operator in _operators.split():
        setattr(Wire, f"__{_operator}__", _refusing(_act))


def _or(self: Wire, other: object, *_: object) -> NoReturn:
    """Refuse `wire | other`, as all arithmetic; if a step follows, show the call to write."""
    if isinstance(other, Decorated):
        refuse_pipe(spelled(self), other.name)
    refuse(self, "be calculated with")


setattr(Wire, "__or__", _or)  # noqa: B010 - like the others


def refuse(wire: Wire, act: str) -> NoReturn:
    """Raise the error for a wire used as a value, with the wrong line and the right one.

    `act` completes the sentence "the wire cannot ...", such as "be tested".

    Raises:
        DefinitionError: always.
    """
    # Imported late: `refusal` needs the nodes' annotations, and nodes import this module.
    from orchestra.graph.refusals.refusal import refusal

    frame = user_frame()
    raise DefinitionError(refusal(frame, frame.f_lasti, wire, act))


def spelled(wire: Wire) -> str:
    """The wire as its pipeline would write it: `question`, `classify(...).name`."""
    return wire._node.spelled + "".join(map(str, wire._path))  # noqa: SLF001


def node_of(wire: Wire) -> Node:
    """The node whose value, or a part of it, the wire stands for."""
    return wire._node  # noqa: SLF001 - public attributes are parts of the user's value


def path_of(wire: Wire) -> Path_:
    """The path to the wire's part of the node's value; empty for the whole value."""
    return wire._path  # noqa: SLF001
