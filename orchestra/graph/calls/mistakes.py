"""Messages for wrong calls of orchestra's functions and classes.

Python's own message names only the function. These say where the call is, which
parameter was meant, and what the function takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from functools import wraps
from typing import Any, TypeVar, cast

from orchestra.errors import DefinitionError
from orchestra.graph.source.frames import called_at
from orchestra.graph.source.functions import BY_NAME
from orchestra.nearest import nearest_name

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

_POLICIES = {
    "retr": "retry=Retry(attempts_max=3)",
    "attempt": "retry=Retry(attempts_max=3)",
    "timeout": "timeout_s=5",
    "deadline": "timeout_s=5",
}
_IN_OTHER_LIBRARIES = {
    "at_once": "concurrency max_concurrency max_workers workers parallel batch_size limit n",
    "attempts_max": "max_attempts max_retries retries tries count n",
    "default": "otherwise else_ fallback",
    "on": "errors exceptions exception catch retry_on",
    "output_tokens_max": "max_tokens max_output_tokens max_completion_tokens",
    "returns": "response_format response_model schema output_type",
    "retry": "retries max_retries attempts",
    "schedule": "seed random_seed",
    "steps": "scripts mocks fakes patches",
    "timeout_s": "timeout deadline_s deadline",
    "deadline_s": "timeout_s timeout",
    "top": "k n limit count",
    "tools": "functions",
}
"""Names of parameters in orchestra, and their names in other libraries."""
_NEEDLESS = {"stream": "leave it out: models stream anyway, and `collect(...)` gives one value"}


def explain_wrong_calls(function: F) -> F:
    """Decorate a function so that a wrong call is explained in the words of `check`.

    Raises:
        DefinitionError: whenever Python would raise a `TypeError` for a wrong call.
    """

    def refused(wrong: str) -> DefinitionError:
        return DefinitionError(f"{called_at()}: {wrong}")

    return cast("F", _explained(function, function.__name__, refused))


def explain_wrong_fields(cls: C) -> C:
    """Decorate a class so that a wrong call raises a `TypeError` that lists its fields."""
    cls.__init__ = _explained(cls.__init__, cls.__name__, TypeError)  # type: ignore[misc]
    return cls


def _explained(
    function: Callable[..., Any], name: str, refused: Callable[[str], Exception]
) -> Callable[..., Any]:
    """Wrap a function so that a wrong call raises `refused(message)`."""

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        try:
            return function(*args, **kwargs)
        except TypeError:
            wrong = _wrong(function, name, args, kwargs)
            if wrong is None:
                raise
        raise refused(wrong)

    return call


def parameter_meant(name: str, takes: Collection[str]) -> str:
    """The parameter that an unknown name probably means; empty if none is likely."""
    if name in _NEEDLESS:
        return ""
    known = (own for own, aliases in _IN_OTHER_LIBRARIES.items() if name in aliases.split())
    named = next((each for each in known if each in takes), "")
    return named or nearest_name(name, takes)


def right_place_for(name: str, takes: Collection[str], step: str) -> str:
    """The code to write for an argument that does not belong here; empty if there is none."""
    if name in _NEEDLESS:
        return _NEEDLESS[name]
    if name == "policy":
        return f"give it to the step: `{step}.using(policy)(...)`"
    number = next((policy for part, policy in _POLICIES.items() if part in name), "")
    if not number:
        return ""
    if "policy" in takes:
        return f"write `policy=Policy({number})`"
    return f"give it to the step: `{step}.using(Policy({number}))(...)`"


def _wrong(
    function: Callable[..., Any], name: str, args: tuple[object, ...], kwargs: Iterable[str]
) -> str | None:
    """The message about a wrong call; None if the arguments fit the function."""
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **dict.fromkeys(kwargs))
    except TypeError as error:
        parameters = [each for each in signature.parameters.values() if each.name != "self"]
        takes = [each.name for each in parameters if each.kind in BY_NAME]
        unknown = next((each for each in kwargs if each not in takes), None)
        written = f"it is `{name}({', '.join(_written(parameters))})`"
        if unknown is not None and (near := parameter_meant(unknown, takes)):
            written = f"did you mean {near!r}? {written}"
        elif unknown is not None and (fix := right_place_for(unknown, takes, "some_step")):
            written = f"{fix}; {written}"
        if unknown is None:
            return f"{name}(...): {error}; {written}"
        return f"{name}(...) has no parameter {unknown!r}; {written}"
    return None


def _written(parameters: list[inspect.Parameter]) -> Iterable[str]:
    """The parameters as a call would write them: `*arms`, `at_once=...`."""
    for each in parameters:
        if each.kind is each.POSITIONAL_ONLY:
            continue  # the decorated function
        by_name = each.kind is each.KEYWORD_ONLY or each.default is not each.empty
        yield f"{each.name}=..." if by_name else str(each.replace(annotation=each.empty))
