"""The names that a step's `Label` can have, where the pipeline's code lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias, cast

from orchestra.eventclass import frozen
from orchestra.graph.nodes import Call
from orchestra.graph.wires import Attribute, Wire, node_of, path_of


@frozen
class Choices:
    """Marks the parameter that lists all names of the step's `Label`."""


Labels: TypeAlias = Annotated[tuple[str, ...] | list[str] | Mapping[str, str], Choices()]


def labels_of(wire: Wire) -> tuple[str, ...]:
    """The names that the label on the wire can have; empty where only a run knows them."""
    node = node_of(wire)
    if not isinstance(node, Call) or path_of(wire) not in ((), (Attribute("name"),)):
        return ()
    given = [argument for _, argument, expects in node.places if _is_choices(expects)]
    names = tuple(given[0]) if given and isinstance(given[0], tuple | list | Mapping) else ()
    return cast("tuple[str, ...]", names if all(isinstance(each, str) for each in names) else ())


def _is_choices(annotation: object) -> bool:
    return Choices() in getattr(annotation, "__metadata__", ())
