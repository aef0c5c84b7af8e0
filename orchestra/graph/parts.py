"""Parts: what is looked through for wires, each part with the annotation of its place.

Lists, tuples, dicts and `functools.partial`: what a pipeline writes around wires, and is filled
when they have their values. Every other value is passed on as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from orchestra.annotations.deferred import signature
from orchestra.annotations.facts import MISSING, element, hints, item
from orchestra.errors import DefinitionError
from orchestra.graph.source.functions import underlying
from orchestra.graph.wires import Wire


def wires_in(argument: object, expects: object = object) -> Iterator[tuple[Wire, object]]:
    """The wires in an argument, each with the annotation of the place it is in."""
    if isinstance(argument, Wire):
        yield argument, expects
    else:
        for _, part, wanted in parts_in(argument, expects):
            yield from wires_in(part, wanted)


def is_wired(value: object) -> bool:
    """Whether something is a wire, or a container with wires in it."""
    return any(True for _ in wires_in(value))


def parts_in(container: object, expects: object) -> Iterator[tuple[object, object, object]]:
    """The parts of a list, tuple, dict or partial: key, part, and the annotation of its place.

    A partial's first part, with the key None, is its function. Nothing for every other value,
    those of subclasses too: they are passed on as they are.
    """
    if type(container) is list:
        wanted = _asked(element(expects))
        yield from ((place_, part, wanted) for place_, part in enumerate(container))
    elif type(container) is tuple:
        for place_, part in enumerate(container):
            yield place_, part, _asked(item(expects, place_))
    elif type(container) is dict:
        for key, part in container.items():
            yield key, part, _asked(item(expects, key))
    elif type(container) is partial:
        yield from _given_to(container)


def _given_to(bound: partial[object]) -> Iterator[tuple[object, object, object]]:
    """What a partial will call its function with."""
    yield None, bound.func, object
    names, known = _taken_by(bound.func)
    for place_, part in enumerate(bound.args):
        name = names[place_] if place_ < len(names) else ""
        yield place_, part, known.get(name, object)
    for name, part in bound.keywords.items():
        yield name, part, known.get(name, object)


def _taken_by(function: Callable[..., object]) -> tuple[list[str], Mapping[str, object]]:
    """The names that a function takes by position, and the annotations; none that are unknown."""
    try:
        parameters = signature(function).parameters.values()
        known = hints(underlying(function))
    except (DefinitionError, TypeError, ValueError):  # told where the function is looked at
        return [], {}
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in parameters if each.kind in by_position], known


def _asked(kind: object) -> object:
    """The annotation of a place; a place that does not exist asks for nothing."""
    return object if kind is MISSING else kind
