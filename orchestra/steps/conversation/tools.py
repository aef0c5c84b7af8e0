"""Tools: typed Python functions that a model may call.

A function's signature becomes the JSON Schema of its arguments, and its docstring becomes the
description. The module `calling` runs the tools.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import WRAPPER_ASSIGNMENTS, partial
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, cast, overload

import attrs

from orchestra.annotations.deferred import handed_on, signature
from orchestra.annotations.docstrings import described
from orchestra.annotations.facts import hints, spell
from orchestra.annotations.pydantic_models import is_field
from orchestra.annotations.schemas import object_schema, parameters_schema
from orchestra.errors import DefinitionError
from orchestra.graph.pipelines import MayRunPipeline, Pipeline
from orchestra.graph.source.frames import called_at, place
from orchestra.graph.source.functions import defined_at, underlying
from orchestra.graph.steps import Kind, Step
from orchestra.graph.wires import Wire, spelled
from orchestra.protocols import Context
from orchestra.steps.conversation.dynamic_tools import checked_schema, parameters_beside
from orchestra.steps.conversation.pipeline_tools import pipeline_of, with_functions
from orchestra.values import Tool

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Function: TypeAlias = Callable[..., object]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Names that every provider accepts."""
_LAMBDA = "<lambda>"
_NO_LAMBDA = (
    "a lambda in tools has no name and no annotations that a model could go by; write a function: "
    "`def look_up(word: str) -> str: ...`"
)


@attrs.frozen(eq=False, slots=False, repr=False)
class FunctionTool(MayRunPipeline, Generic[P, T_co]):
    """A function as a tool. Calling the tool calls the function.

    `declaration` is what the model is told about it: name, description and schema.
    """

    call: Callable[P, T_co]
    declaration: Tool
    kinds: Mapping[str, object]
    """The annotations of the parameters that the model fills in."""
    required: frozenset[str]
    injected: str | None = None
    """The name of the parameter for the step's context, if there is one."""
    thread: bool = False
    timeout_s: float | None = None
    pipeline: Pipeline[..., Any] | None = None
    needs_approval: bool = False
    hidden: frozenset[str] | None = None
    """Names that the model may not use, if its arguments have a given schema, and are passed on as
    they come; None if the schema is that of the function's own parameters."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Call the function."""
        return self.call(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self.declaration.name}>"


@attrs.frozen(eq=False, slots=False, repr=False)
class Unfilled(MayRunPipeline):
    """A tool that lacks some arguments until a run: calling it with them makes the tool."""

    tool: FunctionTool[..., object]
    pipeline: Pipeline[..., Any] | None = attrs.field(init=False)

    @pipeline.default
    def _pipeline_of_tool(self) -> Pipeline[..., Any] | None:
        return self.tool.pipeline

    def __call__(self, *args: object, **kwargs: object) -> FunctionTool[..., object]:
        """The tool with these arguments filled in."""
        return attrs.evolve(self.tool, call=partial(self.tool.call, *args, **kwargs))

    @property
    def __wrapped__(self) -> Function:
        """The function that takes the arguments."""
        return self.tool.call

    def __repr__(self) -> str:
        return repr(self.tool)


@overload
def tool(function: Callable[P, T], /) -> FunctionTool[P, T]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    thread: bool = False,
    timeout_s: float | None = None,
    needs_approval: bool = False,
) -> Callable[[Callable[P, T]], FunctionTool[P, T]]: ...
def tool(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    thread: bool = False,
    timeout_s: float | None = None,
    needs_approval: bool = False,
) -> Any:
    """Make a tool of a function or pipeline, with settings that the function itself cannot have.

    A plain function in `tools=[...]` is a tool already. The model is given its name, the
    annotations of its parameters, and its docstring: the text before the first section, the
    `Args:` of each parameter, and `Annotated[int, "in metres"]`. A parameter
    `context: Context = injected` is filled in, and hidden from the model.

    Arguments given by a `functools.partial` are hidden, too, and the model cannot change them:
    `partial(orders, user=user)` is the tool `orders`, and `user` may be a value of the pipeline.

    An async function is awaited; a plain one is called directly and has to be quick. With
    `thread=True`, a plain one is called in a worker thread. `timeout_s` bounds each call of an
    async function, in place of the step's `tool_timeout_s`; plain functions cannot be interrupted.

    `parameters` is the JSON Schema of the arguments if it comes from elsewhere, as from an MCP
    server. The function then takes `**arguments`, as plain values of JSON, and has to check them.

    With `needs_approval`, a call by a model does not run: once the other calls of the round have
    run, `generate` raises an `orchestra.transcripts.ApprovalNeededError`, from which another run
    can go on. A call whose arguments do not fit is answered at once, as without it.

    Raises:
        DefinitionError: a parameter has no annotation, or one without a form in JSON; the
            function has no valid name; a bound is invalid; or `parameters` are no schema of an
            object, or do not fit the function.
    """
    if timeout_s is not None and not timeout_s > 0:
        raise DefinitionError(
            f"{called_at()}: tool(timeout_s={timeout_s!r}): it must be a number of seconds, "
            "more than 0, or None for no bound"
        )

    def decorate(function: Function) -> FunctionTool[..., object]:
        return _made(
            *(function, name, description),
            parameters=parameters,
            thread=thread,
            timeout_s=timeout_s,
            needs_approval=needs_approval,
        )

    return decorate if function is None else decorate(function)


def as_tools(functions: Sequence[Function]) -> tuple[FunctionTool[..., object], ...]:
    """Each function as a tool; a step becomes a tool of its function, a pipeline one that runs it.

    Raises:
        DefinitionError: as for `tool`; or two tools have the same name.
    """
    _refuse_other_than_list(functions)
    tools = tuple(map(_as_tool, functions))
    names = [each.declaration.name for each in tools]
    for name in names:
        if names.count(name) > 1:
            raise DefinitionError(
                f"{called_at()}: two tools are called {name!r}, and a model could not "
                "tell them apart; rename one: tool(name=...)(function)"
            )
    return tools


def _refuse_other_than_list(functions: object) -> None:
    """Refuse a wire or a single function in place of a list of functions."""
    where = called_at()
    if isinstance(functions, Wire):
        raise DefinitionError(
            f"{where}: tools={spelled(functions)}: which functions a model may call is decided "
            "when the pipeline is written, and not by a value of the run; name them: tools=[search]"
        )
    if callable(functions):
        name = getattr(functions, "name", None) or getattr(functions, "__name__", repr(functions))
        raise DefinitionError(
            f"{where}: tools={name:.100} is one function, and tools are a list of functions: write "
            f"tools=[{name:.100}]"
        )


# --- from a function to a tool -----------------------------------------------------------------


def _as_tool(function: Function) -> FunctionTool[..., object]:
    if isinstance(function, FunctionTool):
        return function
    if isinstance(function, partial) and isinstance(function.func, Unfilled):
        return cast("FunctionTool[..., object]", function())
    inner = _inner(function)
    if not isinstance(inner, Step):
        return _made(function, None, None, thread=False, timeout_s=None)
    if isinstance(function, partial):
        function = partial(inner.call, *function.args, **function.keywords)
    elif isinstance(inner.call, FunctionTool):
        return inner.call
    else:
        function = inner.call
    name = None if isinstance(inner.call, FunctionTool) else inner.name
    return _made(function, name, None, thread=inner.kind is Kind.THREAD, timeout_s=None)


def _inner(function: Function) -> Function:
    """The function inside a partial; any other function itself."""
    return function.func if isinstance(function, partial) else function


def _made(
    function: Function,
    name: str | None,
    description: str | None,
    *,
    parameters: Mapping[str, Any] | None = None,
    thread: bool,
    timeout_s: float | None,
    needs_approval: bool = False,
) -> FunctionTool[..., object]:
    function = with_functions(function)
    inner = _inner(function)
    _refuse_other_than_function(inner)
    if isinstance(inner, FunctionTool):  # a partial of a tool keeps the tool's settings
        name, thread = name or inner.declaration.name, thread or inner.thread
        description = inner.declaration.description if description is None else description
        timeout_s = inner.timeout_s if timeout_s is None else timeout_s
        if parameters is None and inner.hidden is not None:
            parameters = inner.declaration.parameters
        needs_approval = needs_approval or inner.needs_approval
    name = name or str(getattr(inner, "__name__", ""))
    _refuse_shape(function, name, thread=thread, timeout_s=timeout_s)
    doc = described(inspect.getdoc(inner))
    text = doc.text if description is None else description
    settings = (thread, timeout_s, pipeline_of(inner), needs_approval)
    made: FunctionTool[..., object]
    if parameters is None:
        kinds, defaults, injected = _parameters(function, name)
        declaration = Tool(name, text, parameters_schema(kinds, defaults, doc.members))
        required = frozenset(kinds.keys() - defaults.keys())
        made = FunctionTool(function, declaration, kinds, required, injected, *settings)
    else:
        where = f"{_where(function)}: tool {name!r}"
        schema = checked_schema(parameters, where)
        open_parameters = _open_parameters(function, name)
        hidden, injected = parameters_beside(function, open_parameters, schema, where)
        declaration = Tool(name, text, schema)
        made = FunctionTool(function, declaration, {}, frozenset(), injected, *settings, hidden)
    names: tuple[str, ...] = WRAPPER_ASSIGNMENTS
    found = {each: getattr(inner, each) for each in names if hasattr(inner, each)}
    found |= handed_on(inner)  # the annotations: from Python 3.14 on, not among these names
    vars(made).update(found, __wrapped__=function)  # as `wraps` does; attrs forbids assignment
    return made


def _refuse_other_than_function(function: object) -> None:
    """Refuse objects that cannot be called with a model's arguments."""
    right = "pass typed functions: generate(..., tools=[search])"
    if isinstance(function, Wire):
        why = f"the wire {spelled(function)} is not a function yet, and tools are decided when the "
        why += "pipeline is written"
    elif isinstance(function, Step):  # otherwise errors would be about the step's `__call__`
        why = f"@tool is above @step of {function.name!r}, and a step is a tool already"
        right = f"write tools=[{function.name}], or @step above @tool(...) to say more"
    elif not callable(function):
        why = f"{function!r:.100} in tools is not a function"
    else:
        return
    raise DefinitionError(f"{called_at()}: {why}; {right}")


def _refuse_shape(function: Function, name: str, *, thread: bool, timeout_s: float | None) -> None:
    where = _where(function)
    if name == _LAMBDA:
        raise DefinitionError(f"{where}: {_NO_LAMBDA}")
    if not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{where}: {name or function!r:.100} cannot name a tool; give it a name of up to 64 "
            'letters, digits, `_` and `-`: tool(name="look_up")(function)'
        )
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise DefinitionError(
            f"{where}: tool {name!r} yields, and a tool returns one value; return a list"
        )
    if thread and inspect.iscoroutinefunction(function):
        raise DefinitionError(
            f"{where}: tool {name!r} is `async def`, and a thread runs a plain function; write "
            f"`def {name}`, or leave `thread=True` out"
        )
    if timeout_s is not None and not inspect.iscoroutinefunction(underlying(function)):
        raise DefinitionError(
            f"{where}: tool {name!r} has timeout_s, but a plain function cannot be interrupted, "
            f"not even in a thread; write `async def {name}`, or give its own calls a timeout"
        )


def _parameters(
    function: Function, name: str
) -> tuple[dict[str, object], dict[str, object], str | None]:
    """Annotations and defaults of the parameters for the model, and the name of the context's."""
    found = hints(underlying(function))
    kinds: dict[str, object] = {}
    defaults: dict[str, object] = {}
    injected = None
    for each in _open_parameters(function, name):
        kind = found.get(each.name)
        if kind is Context:
            injected = each.name
            continue
        _refuse_parameter(function, name, each, kind)
        # `most: int = None` is often written, and the model is told this default
        kinds[each.name] = cast("Any", kind) | None if each.default is None else kind
        if each.default is not each.empty:
            defaults[each.name] = each.default
    return kinds, defaults, injected


def _open_parameters(function: Function, name: str) -> list[inspect.Parameter]:
    """The parameters that are still open: a partial's arguments are not the model's to change."""
    try:
        parameters = signature(function).parameters.values()
    except ValueError as error:  # a partial with wrong arguments, or one of some built-ins
        raise DefinitionError(
            f"{called_at()}: tool {name!r} is {function!r:.200}, whose parameters cannot "
            f"be determined ({error}); give a partial only arguments that its function takes, or "
            "write a function"
        ) from error
    given = function.keywords if isinstance(function, partial) else {}
    return [each for each in parameters if each.name not in given]


def _refuse_parameter(function: Function, name: str, each: inspect.Parameter, kind: object) -> None:
    where = f"{_where(function)}: tool {name!r}: its parameter"
    if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
        raise DefinitionError(
            f"{where} `{each}` cannot be passed by name; spell every parameter out, "
            "`def look_up(word: str, most: int = 3)`"
        )
    if each.annotation is each.empty:
        if underlying(function).__name__ == _LAMBDA:
            raise DefinitionError(f"{_where(function)}: {_NO_LAMBDA}")
        raise DefinitionError(
            f"{where} {each.name!r} has no annotation, and the model would not know what to pass; "
            f"write `{each.name}: str`, or whatever it is"
        )
    if is_field(each.default):
        raise DefinitionError(
            f"{where} {each.name!r} has a `Field(...)` as its default, as only classes of Pydantic "
            f"have; write `{each.name}: Annotated[{spell(kind)}, Field(...)]`, and any default "
            "behind it"
        )
    try:
        object_schema({each.name: kind}, {})
    except Exception as error:
        raise DefinitionError(
            f"{where} `{each.name}: {spell(kind)}` has no form in JSON ({error}); take a str, "
            "a number, a bool, a list, a dict, an Enum, a Literal, or a dataclass, TypedDict, "
            "attrs class or Pydantic model of those"
        ) from error


def _where(function: Function) -> str:
    if (pipeline := pipeline_of(_inner(function))) is not None:
        return pipeline.where
    code = getattr(underlying(function), "__code__", None)
    return called_at() if code is None else place(*defined_at(code))
