"""Tools: typed Python functions that a model may ask for.

A function's signature is the JSON Schema of its arguments, its docstring says what it is for.
How they are called is in `calling`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, cast, overload

import attrs

from orchestra.annotations.docstrings import described
from orchestra.annotations.facts import hints, spell
from orchestra.annotations.schemas import object_schema, parameters_schema
from orchestra.errors import DefinitionError
from orchestra.graph.functions import defined_at
from orchestra.graph.steps import Kind, Step
from orchestra.graph.wires import place, source_line
from orchestra.protocols import Context
from orchestra.values import Tool

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Function: TypeAlias = Callable[..., object]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What every provider takes."""


@attrs.frozen(eq=False, slots=False, repr=False)
class FunctionTool(Generic[P, T_co]):
    """A function as a tool. Called, it is the function itself.

    `told` is what a model learns of it.
    """

    call: Callable[P, T_co]
    told: Tool
    kinds: Mapping[str, object]
    """The annotations of those parameters that the model fills in."""
    required: frozenset[str]
    injected: str | None = None
    """The parameter that is given the step's context."""
    thread: bool = False
    timeout_s: float | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """What the function gives."""
        return self.call(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self.told.name}>"


@overload
def tool(function: Callable[P, T], /) -> FunctionTool[P, T]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    thread: bool = False,
    timeout_s: float | None = None,
) -> Callable[[Callable[P, T]], FunctionTool[P, T]]: ...
def tool(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    thread: bool = False,
    timeout_s: float | None = None,
) -> Any:
    """Make a function a tool, where the function alone does not say enough.

    A plain function in `tools=[...]` is a tool already. Its name, its docstring and the
    annotations of its parameters are what the model is told: the text before the first section
    of the docstring, the `Args:` of each parameter, and `Annotated[int, "in metres"]`. A
    parameter `context: Context = injected` is filled in, and not told.

    An async function is awaited, a plain one is called on the spot and has to be quick; with
    `thread=True` it is called in a worker thread. `timeout_s` bounds each call, in place of
    the step's `tool_timeout_s`.

    Raises:
        DefinitionError: a parameter has no annotation, or one without a form in JSON; or the
            function has no name that a model could call.
    """
    if timeout_s is not None and not timeout_s > 0:
        raise DefinitionError(
            f"{place(*source_line())}: tool(timeout_s={timeout_s!r}): it is a number of seconds, "
            "more than 0, or None for no bound"
        )

    def decorate(function: Function) -> FunctionTool[..., object]:
        return _made(function, name, description, thread=thread, timeout_s=timeout_s)

    return decorate if function is None else decorate(function)


def as_tools(functions: Sequence[Function]) -> tuple[FunctionTool[..., object], ...]:
    """Each function as a tool; a step's function, where it is a step.

    Raises:
        DefinitionError: as of `tool`, or two have the same name.
    """
    if callable(functions):
        name = getattr(functions, "name", None) or getattr(functions, "__name__", repr(functions))
        raise DefinitionError(
            f"{place(*source_line())}: tools={name:.100} is one function, and tools are a list of "
            f"functions: write tools=[{name:.100}]"
        )
    tools = tuple(map(_as_tool, functions))
    names = [each.told.name for each in tools]
    for name in names:
        if names.count(name) > 1:
            raise DefinitionError(
                f"{place(*source_line())}: two tools are called {name!r}, and a model could not "
                "tell them apart; rename one: tool(name=...)(function)"
            )
    return tools


# --- from a function to a tool -----------------------------------------------------------------


def _as_tool(function: Function) -> FunctionTool[..., object]:
    if isinstance(function, FunctionTool):
        return function
    if isinstance(function, Step):
        thread = function.kind is Kind.THREAD
        return _made(function.call, function.name, None, thread=thread, timeout_s=None)
    return _made(function, None, None, thread=False, timeout_s=None)


def _made(
    function: Function,
    name: str | None,
    description: str | None,
    *,
    thread: bool,
    timeout_s: float | None,
) -> FunctionTool[..., object]:
    if not callable(function):
        raise DefinitionError(
            f"{place(*source_line())}: {function!r:.100} in tools is no function; pass typed "
            "functions: generate(..., tools=[search])"
        )
    name = name or str(getattr(function, "__name__", ""))
    _refuse_shape(function, name, thread=thread)
    kinds, defaults, injected = _parameters(function, name)
    said = described(inspect.getdoc(function))
    told = Tool(
        name,
        said.text if description is None else description,
        parameters_schema(kinds, defaults, said.members),
    )
    required = frozenset(kinds.keys() - defaults.keys())
    made = FunctionTool(function, told, kinds, required, injected, thread, timeout_s)
    found = {each: getattr(function, each, None) for each in ("__module__", "__name__", "__doc__")}
    vars(made).update(found, __wrapped__=function)  # as `wraps` does; attrs would not let it
    return made


def _refuse_shape(function: Function, name: str, *, thread: bool) -> None:
    where = _where(function)
    if not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{where}: {name or function!r} is no name for a tool; give it one of up to 64 "
            'letters, digits, `_` and `-`: tool(name="look_up")(function)'
        )
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise DefinitionError(
            f"{where}: tool {name!r} yields, and a tool gives one value; return a list"
        )
    if thread and inspect.iscoroutinefunction(function):
        raise DefinitionError(
            f"{where}: tool {name!r} is `async def`, and a thread runs a plain function; write "
            f"`def {name}`, or leave `thread=True` out"
        )


def _parameters(
    function: Function, name: str
) -> tuple[dict[str, object], dict[str, object], str | None]:
    """The annotations and defaults of what the model fills in, and what we fill in."""
    found = hints(inspect.unwrap(cast("Callable[..., Any]", _unbound(function))))
    kinds: dict[str, object] = {}
    defaults: dict[str, object] = {}
    injected = None
    for each in inspect.signature(function).parameters.values():
        kind = found.get(each.name)
        if kind is Context:
            injected = each.name
            continue
        _refuse_parameter(function, name, each, kind)
        kinds[each.name] = kind
        if each.default is not each.empty:
            defaults[each.name] = each.default
    return kinds, defaults, injected


def _unbound(function: Function) -> Function:
    """What holds the annotations: the function of a partial, the `__call__` of an object."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    return cast("Function", type(function).__call__)


def _refuse_parameter(function: Function, name: str, each: inspect.Parameter, kind: object) -> None:
    where = f"{_where(function)}: tool {name!r}: its parameter"
    if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
        raise DefinitionError(
            f"{where} `{each}` cannot be passed by name; spell every parameter out, "
            "`def look_up(word: str, most: int = 3)`"
        )
    if each.annotation is each.empty:
        raise DefinitionError(
            f"{where} {each.name!r} has no annotation, and the model would not know what to pass; "
            f"write `{each.name}: str`, or whatever it is"
        )
    try:
        object_schema({each.name: kind}, {})
    except Exception as error:
        raise DefinitionError(
            f"{where} `{each.name}: {spell(kind)}` has no form in JSON ({error}); take a str, "
            "a number, a bool, a list, a dict, an Enum, a Literal, or a dataclass, TypedDict "
            "or attrs class of those"
        ) from error


def _where(function: Function) -> str:
    code = getattr(inspect.unwrap(cast("Callable[..., Any]", _unbound(function))), "__code__", None)
    return place(*source_line()) if code is None else place(*defined_at(code))
