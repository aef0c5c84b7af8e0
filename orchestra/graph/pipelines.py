"""Pipelines: a function is called once, with wires; the graph is what the returned wire reaches."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

import attrs

from orchestra.annotations.deferred import signature
from orchestra.annotations.facts import MISSING, hints
from orchestra.errors import DefinitionError
from orchestra.graph.calls.awaitables import refuse_awaitables
from orchestra.graph.calls.mistakes import explain_wrong_calls
from orchestra.graph.definition import Definition, current_definition, defining, in_definition
from orchestra.graph.gather import wire_of
from orchestra.graph.nodes import Input, Node, Origin
from orchestra.graph.refusals.silent_tests import refusing_silent_tests
from orchestra.graph.rules.policy import is_number
from orchestra.graph.source.decorated import Decorated
from orchestra.graph.source.frames import called_at, place
from orchestra.graph.source.functions import defined_at, function_of, name_of, returned_at
from orchestra.graph.source.handlers import handler_that_failed
from orchestra.graph.wires import Wire
from orchestra.problem import Problem
from orchestra.protocols import injected

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@attrs.frozen(eq=False, slots=False, repr=False)
class Pipeline(Decorated, Generic[P, T_co]):
    """A graph of steps: a value that can be checked, drawn, planned, run, served and simulated."""

    name: str
    function: Callable[P, Any]
    deadline_s: float | None
    where: str
    returns: object
    """The annotation of its result; `MISSING` where there is none."""
    inputs: Mapping[str, Input]
    nodes: tuple[Node, ...]
    """Every node the function made, in order; `output` may not reach all of them."""
    output: Wire
    faults: tuple[Problem, ...] = ()
    """Problems of the function itself, which `check` reports with all others."""

    def __attrs_post_init__(self) -> None:
        self._look_like(self.function)

    if not TYPE_CHECKING:  # hidden from type checkers, which report unknown attributes

        def __getattr__(self, name: str) -> NoReturn:
            own = self.__dict__.get("name", "")
            ways = f"orchestra.run({own}, ...)`, in Trio by `await engine.run({own}, ...)"
            raise AttributeError(
                f"pipeline {own!r} has no `.{name}`; run it with `{ways}`", name=name, obj=self
            )

    @property
    def doc(self) -> str:
        """The function's docstring, cleaned; empty where there is none."""
        return inspect.getdoc(self.function) or ""

    @explain_wrong_calls
    def using(self, *, deadline_s: float | None) -> Pipeline[P, T_co]:
        """The same pipeline with another deadline for its runs.

        Raises:
            DefinitionError: the deadline is neither None nor a number of seconds over 0.
        """
        return attrs.evolve(self, deadline_s=_deadline(self.name, deadline_s))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Inline the pipeline's nodes into the pipeline that is being defined.

        Raises:
            DefinitionError: called outside a pipeline, or with the wrong arguments.
        """
        definition = current_definition(
            f"pipeline {self.name!r}",
            f"write `await engine.run({self.name}, ...)`, or `orchestra.run({self.name}, ...)` "
            f"in a script; in a step, `await context.run({self.name}, ...)`",
        )
        try:
            bound = signature(self.function).bind(*args, **kwargs)
        except TypeError as error:
            raise DefinitionError(
                f"{called_at()}: pipeline {self.name!r} is called wrongly: {error}; it "
                f"is `{self.name}{signature(self.function)}`, at {self.where}"
            ) from error
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            bound.arguments[name] = wire_of(value)
        self._report_deadline(definition)
        outside, definition.inside = definition.inside, (*definition.inside, self.name)
        try:
            return cast("T_co", wire_of(self.function(*bound.args, **bound.kwargs)))
        finally:
            definition.inside = outside

    def _report_deadline(self, definition: Definition) -> None:
        """Report a deadline that has no effect: an inlined pipeline has no run of its own."""
        inner_s, outer_s = self.deadline_s, definition.deadline_s
        if inner_s is None or (outer_s is not None and outer_s <= inner_s):
            return
        message = f"pipeline {self.name!r} has deadline_s={inner_s:g}, which bounds only its own "
        message += f"runs, not its part in a run of {definition.pipeline!r}"
        fix = f"write @pipeline(deadline_s={inner_s:g}) on {definition.pipeline!r}, or "
        fix += f"`{self.name}.using(deadline_s=None)(...)` and Policy(timeout_s=...) on its steps"
        definition.report([Problem("deadline-unfit", called_at(), message, fix)])


class MayRunPipeline:
    """A tool in an argument of a call: `check` finds the pipeline that it runs, if there is one."""

    pipeline: Pipeline[..., Any] | None
    """The pipeline that a call runs; None for any other function."""


class PipelineDecorator(Protocol):
    """The result of `@pipeline(...)` with arguments: a decorator that keeps the function's type."""

    def __call__(self, function: Callable[P, T]) -> Pipeline[P, T]: ...


@overload
def pipeline(function: Callable[P, T], /) -> Pipeline[P, T]: ...
@overload
def pipeline(*, name: str | None = None, deadline_s: float | None = None) -> PipelineDecorator: ...
@explain_wrong_calls
def pipeline(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    deadline_s: float | None = None,
) -> Any:
    """Turn a function into a pipeline, by calling it once with wires in place of values.

    `deadline_s` bounds each run, from its start to its last event.

    Raises:
        DefinitionError: the function uses a wire as if it were a value, the name is not one line
            of text, or the deadline is not a number of seconds over 0. The message shows the line
            and what to write instead. `check` finds all other problems, all at once.
    """

    def decorate(function: Callable[..., Any]) -> Pipeline[..., Any]:
        return _define(function, name, deadline_s)

    return decorate if function is None else decorate(function)


def _define(
    function: Callable[..., Any], named: str | None, deadline_s: float | None
) -> Pipeline[..., Any]:
    inner = function_of(function, "pipeline")
    file_line = defined_at(inner.__code__)
    where, name = place(*file_line), name_of(named, inner, "pipeline")
    if in_definition():
        raise DefinitionError(
            f"{where}: pipeline {name!r} is defined inside another pipeline's function; "
            "define it at the top of the module and call it there"
        )
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(
            f"{where}: pipeline {name!r} is `async`, but its function only connects steps and "
            f"waits for nothing: write `def {name}`"
        )
    if inspect.isgeneratorfunction(function):
        raise DefinitionError(
            f"{where}: pipeline {name!r} has a `yield`, but a pipeline cannot be a generator; "
            "return the stream of its last step: `return generate(...)`"
        )
    definition = Definition(name, deadline_s=deadline_s, code=inner.__code__)
    inputs = _inputs(function, definition, file_line)
    wires = OrderedDict((name, Wire(node)) for name, node in inputs.items())
    given = inspect.BoundArguments(signature(function), wires)
    with defining(definition), _explaining(name, where):
        with refusing_silent_tests(inner, wires, definition.nodes):
            returned = function(*given.args, **given.kwargs)
        definition.line = returned_at(inner.__code__)
        output = _output(returned, name, where, place(*definition.line))
    definition.refuse_foreign(output, where)
    return Pipeline(
        name,
        function,
        _deadline(name, deadline_s),
        where,
        hints(function).get("return", MISSING),
        inputs,
        tuple(definition.nodes),
        output,
        tuple(definition.faults),
    )


def _deadline(name: str, given: object) -> float | None:
    if given is None or (is_number(given) and given > 0):
        return given
    raise DefinitionError(
        f"{called_at()}: pipeline {name!r} has deadline_s={given!r:.80}: it must be the number "
        "of seconds that a run may take, over 0, or None; write deadline_s=5"
    )


@contextmanager
def _explaining(name: str, where: str) -> Iterator[None]:
    """Raise an error that explains one of Python's own, if a misused wire or a cycle caused it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        from orchestra.graph.refusals.refusal import refusal_of_error

        refused = refusal_of_error(error)
        if refused is None:
            raise
        raise DefinitionError(refused) from error
    except RuntimeError as error:
        of_trio = str(error) == "must be called from async context"
        handler = handler_that_failed(error.__traceback__) if of_trio else None
        if handler is None:
            raise
        raise DefinitionError(f"{handler.where}: {handler.message}; {handler.fix}") from error
    except NameError as error:
        from orchestra.graph.refusals.shadowing import shadowed_by_own_result

        if (hidden := shadowed_by_own_result(error)) is not None:
            raise DefinitionError(hidden) from error
        if error.name != name:
            raise
        raise DefinitionError(
            f"{where}: pipeline {name!r} calls itself, but a graph has no cycles; repeat inside "
            "a step, or pass the result on to a second pipeline"
        ) from error


def _inputs(
    function: Callable[..., Any], definition: Definition, file_line: tuple[str, int]
) -> dict[str, Input]:
    """The parameters as input nodes."""
    where, annotations = place(*file_line), hints(function)
    inputs = {}
    for name, parameter in signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise DefinitionError(
                f"{where}: parameter `{parameter}` of pipeline {definition.pipeline!r}: each "
                "input of a pipeline needs a name of its own; take a list instead"
            )
        if parameter.default is injected:
            raise DefinitionError(
                f"{where}: input {name!r} of pipeline {definition.pipeline!r} has the default "
                "`injected`, but the engine injects a context only into steps; remove it from "
                f"`def {definition.pipeline}(...)`, and write `{name}: Context = injected` in the "
                "step that uses it"
            )
        refuse_awaitables(parameter.default, where=where)
        inputs[name] = Input(
            Origin(len(definition.nodes), (), *file_line),
            name,
            annotations.get(name, object),
            MISSING if parameter.default is parameter.empty else parameter.default,
        )
        definition.nodes.append(inputs[name])
    return inputs


def _output(returned: object, name: str, where: str, line: str) -> Wire:
    if returned is None:
        raise DefinitionError(
            f"{where}: pipeline {name!r} returns nothing; return the wire of its result, "
            "such as `return generate(...)`"
        )
    refuse_awaitables(returned, where=line)
    return wire_of(returned)
