"""The base class of steps and pipelines; to tools, each looks like its function.

`wires` imports this module: to refuse `wire | step`, it has to recognise a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from orchestra.annotations.deferred import handed_on, signature
from orchestra.errors import DefinitionError
from orchestra.graph.source.frames import called_at


class Decorated:
    """A step or a pipeline."""

    name: str
    where: str
    """`file:line` of the function's `def`."""
    __qualname__: str

    def _look_like(self, function: Callable[..., object]) -> None:
        """Let tools (`inspect.signature`, `help`, an editor) see this as if it were its function.

        `__wrapped__` is not set. Tools that follow it (`inspect.unwrap`, pytest for a name
        `test_...`) would call the function in place of the step.
        """
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            object.__setattr__(self, name, getattr(function, name, None))
        # Otherwise attributes of the class would be found, and `functools.wraps` would copy them.
        for name, value in handed_on(function).items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "__signature__", signature(function))

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.name!r} at {self.where}>"

    def __reduce__(self) -> str:
        """Pickle by name, like a function; so a copy is the object itself."""
        return self.__qualname__

    if not TYPE_CHECKING:  # hidden from type checkers, which report uses of `|`

        def __or__(self, other: object) -> NoReturn:
            refuse_pipe(f"{self.name}(...)", _name_of(other))

        def __ror__(self, other: object) -> NoReturn:
            refuse_pipe(f"{_name_of(other)}(...)", self.name)


def refuse_pipe(given: str, then: str) -> NoReturn:
    """Refuse `given | then`, and show the calls to write instead.

    Raises:
        DefinitionError: always.
    """
    raise DefinitionError(
        f"{called_at()}: steps are not joined by `|`; call one with the result of the other, in a "
        f"function decorated with @pipeline: `{then}({given})`"
    )


def _name_of(joined: object) -> str:
    name = getattr(joined, "name", None)
    return name if isinstance(name, str) else "some_step"
