"""Parts: the containers that are searched for wires, and the annotation of each part.

The containers are lists, tuples, dicts and `functools.partial`. A pipeline may put wires into
them, and they are filled when the wires have values. Every other value is passed on unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from orchestra.annotations.deferred import signature
from orchestra.annotations.facts import MISSING, element, hints, item
from orchestra.errors import DefinitionError
from orchestra.graph.source.functions import BY_POSITION, underlying
from orchestra.graph.wires import Wire


def wires_in(argument: object, expects: object = object) -> Iterator[tuple[Wire, object]]:
    """The wires in an argument, each with the annotation that it has to fit there."""
    return _wires_in(argument, expects, {})


def _wires_in(
    argument: object, expects: object, without: dict[int, object]
) -> Iterator[tuple[Wire, object]]:
    """As `wires_in`; `without` are containers that need no second look: they have no wires."""
    if isinstance(argument, Wire):
        yield argument, expects
    elif type(argument) in _CONTAINERS and id(argument) not in without:
        without[id(argument)] = argument
        for _, part, wanted in parts_in(argument, expects):
            for found in _wires_in(part, wanted, without):
                without.pop(id(argument), None)
                yield found


def is_wired(value: object) -> bool:
    """Whether a value is a wire, or a container with wires in it."""
    return any(True for _ in wires_in(value))


def parts_in(container: object, expects: object) -> Iterator[tuple[object, object, object]]:
    """The parts of a list, tuple, dict or partial: key, part, and the annotation it has to fit.

    A partial's first part, with the key None, is its function. All other values have no parts,
    instances of subclasses included: they are passed on unchanged.
    """
    if type(container) is list:
        wanted = _or_object(element(expects))
        yield from ((index, part, wanted) for index, part in enumerate(container))
    elif type(container) is tuple:
        for index, part in enumerate(container):
            yield index, part, _or_object(item(expects, index))
    elif type(container) is dict:
        for key, part in container.items():
            yield key, part, _or_object(item(expects, key))
    elif type(container) is partial:
        yield from _parts_of_partial(container)


def _parts_of_partial(bound: partial[object]) -> Iterator[tuple[object, object, object]]:
    """A partial's function, and the arguments that it adds to each call of it."""
    yield None, bound.func, object
    names, known = _parameters_of(bound.func)
    for index, part in enumerate(bound.args):
        name = names[index] if index < len(names) else ""
        yield index, part, known.get(name, object)
    for name, part in bound.keywords.items():
        yield name, part, known.get(name, object)


def _parameters_of(function: Callable[..., object]) -> tuple[list[str], Mapping[str, object]]:
    """A function's positional parameters and its annotations; empty where they are unknown."""
    try:
        parameters = signature(function).parameters.values()
        known = hints(underlying(function))
    except (DefinitionError, TypeError, ValueError):  # reported where the function is checked
        return [], {}
    return [each.name for each in parameters if each.kind in BY_POSITION], known


def _or_object(kind: object) -> object:
    """The annotation itself; `object` where the container's annotation has no such part."""
    return object if kind is MISSING else kind


_CONTAINERS = (list, tuple, dict, partial)
