"""A wire from anything: a wire, a plain value, or a list, tuple or dict with wires in it."""

from __future__ import annotations

from typing import cast

from orchestra.graph.definition import current_definition
from orchestra.graph.nodes import wires_in
from orchestra.graph.steps import step
from orchestra.graph.wires import Wire


@step
def gather(value: object) -> object:
    """The value, with every wire in it replaced by what it carries."""
    return value


def wire_of(value: object) -> Wire:
    """One wire for the value; a container that holds wires becomes a step that fills it."""
    if not isinstance(value, Wire) and any(True for _ in wires_in(value)):
        return cast("Wire", gather(value))
    return current_definition("wire_of", "use it in a pipeline").wire(value)
