"""Checks of one wire: its type, its path, and whether it streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, is_typeddict

from orchestra.annotations.facts import MISSING, Fit, chunk_of, compare, spell
from orchestra.annotations.shapes import fields, plain
from orchestra.compiler.checks.arguments import argument_problems
from orchestra.compiler.checks.failed import place_for_failed, refuses_failed
from orchestra.compiler.checks.uncalled import uncalled
from orchestra.graph.control.agreeing import Comparison
from orchestra.graph.nodes import Call, Choice, Collect, Constant, Each, Edge, Node, type_of
from orchestra.graph.wires import Attribute, Item, Wire, node_of, path_of, spelled
from orchestra.nearest import did_you_mean
from orchestra.problem import Problem


def edge_problems(node: Node) -> Iterator[Problem]:
    """The problems of the wires into a node, and of the plain values passed to it."""
    where = node.origin.where
    for edge in node.edges:
        missing = missing_part(edge.wire, where)
        if missing is not None:
            yield missing
        elif isinstance(node, Collect):
            if not any(uncalled(edge.wire)):  # reported by its own check
                yield from _not_a_stream(edge, where)
        elif edge.arm is None and not isinstance(node, Each):
            yield from _clash(edge, where)
    if isinstance(node, Call):
        yield from argument_problems(node)
    elif isinstance(node, Choice) and not isinstance(node, Comparison):
        yield from _mixed(node, where)


def missing_part(wire: Wire, where: str) -> Problem | None:
    """The problem of a path that the wire's type cannot have."""
    kind = node_of(wire).returns
    if chunk_of(kind) is not None and path_of(wire):
        whole = spelled(Wire(node_of(wire)))
        message = f"{spelled(wire)}: {whole} is {spell(kind)}, and a stream has no parts"
        fix = f"collect({whole}) first, or take the part in a step that reads the stream"
        return Problem("part-of-stream", where, message, fix)
    if type_of(wire) is not MISSING:
        return None
    path = path_of(wire)
    wires = [Wire(node_of(wire), path[:length]) for length in range(len(path) + 1)]
    first = next(index for index, part in enumerate(wires) if type_of(part) is MISSING)
    holder, part, last = wires[first - 1], wires[first], path[first - 1]
    kind = spell(type_of(holder))
    message = f"{spelled(part)}: {spelled(holder)} is {kind}, without `{last}`"
    fix = _parts(last, type_of(holder)) or f"name a part that {kind} has"
    return Problem("unknown-part", where, message, fix)


def _parts(part: Attribute | Item, holder: object) -> str:
    """The parts of a class that declares them, with the most similar name first; else empty."""
    names = [name for name in fields(holder) if not name.startswith("_")]
    written = part.name if isinstance(part, Attribute) else part.key
    if not names or not isinstance(written, str):
        return ""
    meant = did_you_mean(written, names, after=" ", written=lambda near: f"`{_of(holder, near)}`")
    return f"{meant}{spell(holder)} has: {', '.join(names)}"


def _of(holder: object, name: str) -> str:
    """A part in the notation of a wire: an item of a `TypedDict`, else an attribute."""
    return str(Item(name) if is_typeddict(plain(holder)) else Attribute(name))


def _not_a_stream(edge: Edge, where: str) -> Iterator[Problem]:
    kind = type_of(edge.wire)
    if chunk_of(kind) is None:
        name = spelled(edge.wire)
        message = f"collect({name}): {name} is {spell(kind)}, which is a value already"
        yield Problem("value-into-stream", where, message, f"pass {name} as it is")


def _clash(edge: Edge, where: str) -> Iterator[Problem]:
    kind, name = type_of(edge.wire), spelled(edge.wire)
    streams, wants_stream = chunk_of(kind) is not None, chunk_of(edge.expects) is not None
    ends = f"{name} is {spell(kind)}, but {edge.into} takes {spell(edge.expects)}"
    if streams and not wants_stream:
        fix = f"collect({name}), or annotate the parameter `Stream[...]` to read its chunks"
        yield Problem("stream-into-value", where, f"{ends}, which is the whole value", fix)
    elif wants_stream and not streams:
        fix = "pass the result of a step that is an async generator, or take the value whole"
        if isinstance(source := node_of(edge.wire), Collect):
            fix = f"pass {spelled(source.source)} itself, not collected"
        yield Problem("value-into-stream", where, f"{ends}, which are chunks", fix)
    elif compare(kind, edge.expects) is Fit.CANNOT:
        origin = node_of(edge.wire).origin.where
        fix = f"convert it in a step between them; {name} is defined at {origin}"
        fix = chunks_unannotated(edge.wire, edge.expects) or fix
        yield Problem("type-clash", where, ends, fix)
    elif refuses_failed(kind, edge.expects):
        yield Problem("type-clash", where, f"{ends}, without a `Failed`", place_for_failed(kind))


def chunks_unannotated(wire: Wire, expects: object) -> str:
    """The annotation to add if chunks are needed as text but are not annotated; else empty."""
    node = node_of(wire)
    if not isinstance(node, Collect) or chunk_of(type_of(node.source)) is not Any:
        return ""
    wanted = next((each for each in (str, bytes) if compare(each, expects) is not Fit.CANNOT), None)
    if wanted is None:
        return ""
    stream = spelled(node.source)
    return (
        f"annotate what {stream} yields: `-> AsyncIterator[{spell(wanted)}]` is joined, Any is not"
    )


def _mixed(node: Choice, where: str) -> Iterator[Problem]:
    """The problem of a choice in which some arms stream and others do not."""
    kinds = [type_of(arm) for arm in node.arms]
    streams = [chunk_of(kind) is not None for kind in kinds]
    if MISSING not in kinds and any(streams) and not all(streams):
        pairs = zip(node.arm_names, kinds, strict=True)
        arms = "; ".join(f"{name} is {spell(kind)}" for name, kind in pairs)
        fix = "collect(...) the arms that stream, so that all of them are values"
        if any(isinstance(node_of(arm), Constant) for arm in node.arms):
            fix += "; or yield the plain value from a step, so that all of them stream"
        message = f"some arms of {node.label} stream, and others do not: {arms}"
        yield Problem("mixed-arms", where, message, fix)
