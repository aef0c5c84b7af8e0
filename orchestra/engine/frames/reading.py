"""Reading: the arguments of an operation, from the slots of its frame."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from orchestra.annotations.facts import accepts, spell
from orchestra.compiler.blocks.mutable_values import copied_if_mutable, deep_copy
from orchestra.compiler.blocks.slots import Filling, Nested, Operation, Source
from orchestra.engine.lanes.outflow import Restart
from orchestra.engine.lanes.output import Output
from orchestra.errors import EdgeTypeError
from orchestra.graph.wires import Attribute
from orchestra.messages import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestra.engine.frames.frame import Frame
    from orchestra.engine.lanes.lane import Lane
    from orchestra.graph.nodes import Node


def arguments(frame: Frame, operation: Operation[Node]) -> dict[str, object]:
    """The arguments of an operation, by parameter.

    Raises:
        EdgeTypeError: a value lacks the part that is read, or is not of the expected type.
    """
    named = dict(operation.constants)
    for name, value in operation.mutable:
        named[name] = deep_copy(value)
    for name, source in operation.sources:
        named[name] = read(frame, source)
    for name, nested in operation.nested:
        named[name] = _fill(frame, nested)
    return named


def read(frame: Frame, source: Source) -> object:
    """The value of a source: a value, a part of one, or the lane of a stream.

    Raises:
        EdgeTypeError: the value lacks the part that is read, or is not of the expected type.
    """
    if source.lane is not None:
        return frame.lanes[source.slot][source.lane]
    value = frame.values[source.slot]
    if source.path:
        value = _part(value, source)
    if source.expects is not None and not accepts(source.expects, value):
        raise EdgeTypeError(
            f"{source.spelled} is {value!r:.200}, an instance of {type(value).__name__}, but "
            f"{source.into} takes {spell(source.expects)}; correct the annotation, or convert "
            "the value in a step"
        )
    return value


async def collected(frame: Frame, source: Source) -> object:
    """The value of a source; of a stream, all its chunks as one value.

    Raises:
        EdgeTypeError: as for `read`.
        LimitExceededError: the chunks exceed `output_chunks` or `output_bytes`.
    """
    value = read(frame, source)
    if source.lane is None:
        return value
    lane, output = cast("Lane[object]", value), Output(source.chunk, frame.run.shared.limits)
    while batch := await lane.receive():
        for chunk in batch:
            if type(chunk) is Restart:
                output.clear()
            else:
                output.add(chunk)
    return output.joined()


def _part(value: object, source: Source) -> object:
    for part in source.path:
        try:
            if isinstance(part, Attribute):  # noqa: SIM108 - mypy needs an ignore on one line only
                value = getattr(value, part.name)
            else:
                value = value[part.key]  # type: ignore[index]
        except (AttributeError, LookupError, TypeError) as error:
            raise EdgeTypeError(
                f"{source.into} reads {source.spelled}, but {value!r:.200} has no `{part}`: "
                f"{describe(error)}"
            ) from error
    return value


def _fill(frame: Frame, filling: Filling) -> object:
    if isinstance(filling, Source):
        return read(frame, filling)
    if not isinstance(filling, Nested):
        return copied_if_mutable(filling)
    if filling.container is dict:
        return {key: _fill(frame, part) for key, part in filling.parts}
    if filling.container is partial:
        return _bound(frame, filling)
    parts = [_fill(frame, part) for _, part in filling.parts]
    return parts if filling.container is list else tuple(parts)


def _bound(frame: Frame, filling: Nested) -> object:
    """A partial, rebuilt from the parts that `parts_in` found in it."""
    by_position = [part for key, part in filling.parts if not isinstance(key, str)]
    by_name = {key: _fill(frame, part) for key, part in filling.parts if isinstance(key, str)}
    function, *values = [_fill(frame, part) for part in by_position]
    return partial(cast("Callable[..., object]", function), *values, **by_name)
