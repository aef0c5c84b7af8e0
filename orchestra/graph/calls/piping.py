"""Piping: `question | embed | find`, as other libraries join steps; here they are called."""

from __future__ import annotations

from typing import NoReturn

from orchestra.errors import DefinitionError
from orchestra.graph.source.frames import called_at
from orchestra.graph.wires import Wire, spelled


def refuse_pipe(first: object, then: object) -> NoReturn:
    """Say how `first | then` is written.

    Raises:
        DefinitionError: always.
    """
    given = spelled(first) if isinstance(first, Wire) else f"{_name(first)}(...)"
    raise DefinitionError(
        f"{called_at()}: steps are not joined by `|`; call one with what the other gives, in a "
        f"function with @pipeline: `{_name(then)}({given})`"
    )


def _name(joined: object) -> str:
    name = getattr(joined, "name", None)
    return name if isinstance(name, str) else "some_step"
