"""Steps: functions that a pipeline's graph is made of.

`@step` keeps the function's type, so a type checker sees ordinary Python:

    async def f(P) -> T                        Callable[P, T]
    async def f(P) -> AsyncIterator[C]: yield  Callable[P, Stream[C]]
    def f(P) -> T                              Callable[P, T]   cheap and pure, or thread=True
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from enum import Enum
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    cast,
    overload,
)

import attrs

from orchestra.annotations import deferred
from orchestra.annotations.acceptance import plain_classes
from orchestra.annotations.facts import MISSING, chunk_of, hints, spell, yielded
from orchestra.errors import DefinitionError
from orchestra.graph.calls.awaitables import refuse_awaitables
from orchestra.graph.calls.binding import bind
from orchestra.graph.calls.closures import refuse_wires
from orchestra.graph.calls.mistakes import explain_wrong_calls
from orchestra.graph.definition import current_definition, in_definition
from orchestra.graph.nodes import Call, Origin
from orchestra.graph.rules.policy import Policy
from orchestra.graph.source.decorated import Decorated
from orchestra.graph.source.frames import called_at, place
from orchestra.graph.source.functions import BY_NAME, defined_at, function_of, name_of
from orchestra.graph.source.handlers import handlers_around
from orchestra.protocols import Context, Names, Stream, injected

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")
T_co = TypeVar("T_co", covariant=True)

NO_POLICY = Policy()


class Kind(Enum):
    """How a step's function is called."""

    ASYNC = "async"
    STREAM = "stream"
    PLAIN = "plain"
    THREAD = "thread"


@attrs.frozen(eq=False, slots=False, repr=False)
class Step(Decorated, Generic[P, T_co]):
    """A function as a step. Calling it in a pipeline adds a node to the graph.

    `call` is the function itself, for unit tests.
    """

    call: Callable[P, Any]
    kind: Kind
    name: str
    policy: Policy
    where: str

    def __attrs_post_init__(self) -> None:
        self._look_like(self.call)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Add a node to the pipeline that is being defined.

        Raises:
            DefinitionError: called outside a pipeline, or with a coroutine or an iterator.
        """
        definition = current_definition(
            f"step {self.name!r}",
            f"write {self._own_call} to call its function, or call it in a function decorated with "
            "@pipeline and run that with orchestra.run",
        )
        here = sys._getframe(1)  # noqa: SLF001 - as in `user_frame`
        definition.report(handlers_around(here, self.name))
        refuse_awaitables(args, kwargs)
        bound = bind(self, args, kwargs, called_at())
        policy = self.policy
        if self.takes_policy and isinstance(bound.arguments.get("policy"), Policy | None):
            policy = cast("Policy | None", bound.arguments.pop("policy", None)) or policy

        def make(origin: Origin) -> Call:
            return Call(origin, self, bound.arguments, policy, bound.faults, bound.stray)

        return cast("T_co", definition.add(make))

    @explain_wrong_calls
    def using(self, policy: Policy | None) -> Self:
        """The same step under another policy; None is a policy without limits.

        Raises:
            DefinitionError: `policy` is not a Policy.
        """
        return attrs.evolve(self, policy=_policy(self.name, policy))

    @property
    def _own_call(self) -> str:
        """The code that calls the step's own function, outside a pipeline."""
        awaits = {Kind.ASYNC: "await ", Kind.STREAM: "async for chunk in "}.get(self.kind, "")
        given = "..." if self.injected is None else f"..., {self.injected}={self.injected}"
        call = f"`{awaits}{self.name}.call({given})`"
        if self.kind is Kind.THREAD:  # its function blocks
            call += f" (in async code, `await trio.to_thread.run_sync({self.name}.call, ...)`)"
        return call

    @cached_property
    def signature(self) -> inspect.Signature:
        """The function's signature."""
        return deferred.signature(self.call)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The parameters that every call has to pass: no default, and not filled by the engine."""
        return tuple(
            name
            for name, parameter in self.signature.parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            and name != self.injected
        )

    @cached_property
    def hints(self) -> Mapping[str, object]:
        """The function's annotations by parameter, with `return`."""
        return hints(self.call)

    @cached_property
    def expects(self) -> Mapping[str, object]:
        """Each parameter's annotation, or `object`; `*args` is a tuple, `**kwargs` a dict."""
        return {
            name: _whole(parameter, self.hints.get(name, object))
            for name, parameter in self.signature.parameters.items()
        }

    @cached_property
    def annotated_return(self) -> object:
        """The function's return annotation; `MISSING` where there is none."""
        return self.hints.get("return", MISSING)

    @cached_property
    def returns(self) -> object:
        """The annotation of the step's result; `Stream[C]` for an async generator of `C`."""
        annotation = self.annotated_return
        if self.kind is not Kind.STREAM:
            return Any if annotation is MISSING else annotation
        chunk = yielded(annotation)
        return Stream[Any] if chunk is None else Stream[chunk]  # type: ignore[valid-type]

    @cached_property
    def gives(self) -> object:
        """The annotation of the step's value or, of a stream, of each of its chunks."""
        return self.returns if self.kind is not Kind.STREAM else chunk_of(self.returns)

    @cached_property
    def exact_class(self) -> object:
        """The class whose direct instances need no further check; `MISSING` for iterators."""
        kind = self.gives
        return MISSING if isinstance(kind, type) and hasattr(kind, "__next__") else kind

    @cached_property
    def plain_classes(self) -> tuple[type, ...]:
        """Classes whose instances the step may give; `is_of` may accept others as well."""
        return plain_classes(self.gives)

    @cached_property
    def injected(self) -> str | None:
        """The name of the parameter that the engine fills with the run's context, if any."""
        for name, kind in self.expects.items():
            if kind is Context:
                return name
            if self.signature.parameters[name].default is injected:
                if kind == Context | None:
                    return name
                raise _uninjected(self.name, self.where, name, f"is annotated `{spell(kind)}`")
        return None

    def positional(self, named: dict[str, object]) -> list[object]:
        """Remove positional arguments from `named` and return them; flatten `**kwargs`."""
        if self._by_name:
            return []
        positional: list[object] = []
        behind_default = False  # the next argument would fill the place of an omitted one
        for name, parameter in self.signature.parameters.items():
            if name not in named:
                behind_default = True
            elif parameter.kind is parameter.VAR_KEYWORD:
                named.update(cast("dict[str, object]", named.pop(name)))
            elif parameter.kind is parameter.VAR_POSITIONAL:
                positional += cast("tuple[object, ...]", named.pop(name))
            elif parameter.kind is not parameter.KEYWORD_ONLY and not behind_default:
                positional.append(named.pop(name))
        return positional

    @cached_property
    def _by_name(self) -> bool:
        """Whether every parameter can be passed by name."""
        kinds = {parameter.kind for parameter in self.signature.parameters.values()}
        return kinds <= {*BY_NAME}

    @cached_property
    def takes_policy(self) -> bool:
        """Whether `policy=` may be given in the call, for this one node."""
        return self.expects.get("policy") in (Policy, Policy | None)

    @cached_property
    def names(self) -> Mapping[str, Names]:
        """The parameters that name a resource of the deployment, each with its kind."""
        return {
            name: mark
            for name, kind in self.expects.items()
            for mark in getattr(kind, "__metadata__", ())
            if isinstance(mark, Names)
        }


def _whole(parameter: inspect.Parameter, annotation: object) -> object:
    """The annotation of a parameter's whole value: a tuple for `*args`, a dict for `**kwargs`."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        return tuple[annotation, ...]  # type: ignore[valid-type]
    if parameter.kind is parameter.VAR_KEYWORD:
        return dict[str, annotation]  # type: ignore[valid-type]
    return annotation


if TYPE_CHECKING:  # for type checkers, `call` has the type of the step's own function

    class AsyncStep(Step[P, T]):
        """A step made from an async function."""

        call: Callable[P, Coroutine[Any, Any, T]]

    class StreamStep(Step[P, Stream[C]], Generic[P, C]):
        """A step made from an async generator."""

        call: Callable[P, AsyncGenerator[C, None]]

    class PlainStep(Step[P, T]):
        """A step made from a plain function."""

        call: Callable[P, T]


class StepDecorator(Protocol):
    """The result of `@step(...)` with arguments: a decorator that keeps the function's type."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, AsyncIterator[C]]
    ) -> StreamStep[P, C]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, T]]
    ) -> AsyncStep[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, T]) -> PlainStep[P, T]: ...


@overload
def step(  # type: ignore[overload-overlap]
    function: Callable[P, AsyncIterator[C]], /
) -> StreamStep[P, C]: ...
@overload
def step(  # type: ignore[overload-overlap]
    function: Callable[P, Coroutine[Any, Any, T]], /
) -> AsyncStep[P, T]: ...
@overload
def step(function: Callable[P, T], /) -> PlainStep[P, T]: ...
@overload
def step(
    *, thread: bool = False, policy: Policy | None = None, name: str | None = None
) -> StepDecorator: ...
@explain_wrong_calls
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    thread: bool = False,
    policy: Policy | None = None,
    name: str | None = None,
) -> Any:
    """Turn a function into a step.

    An async function gives one value, an async generator a stream of chunks. A plain function
    must be cheap and pure, since it runs in the event loop; with `thread=True` it runs in a worker
    thread. A thread cannot be interrupted: a cancelled run waits for the function to return.

    The engine fills in a keyword parameter `context: Context = injected`. With a keyword
    parameter `policy: Policy | None = None`, each call may set its own policy.

    Raises:
        DefinitionError: `thread=True` on an async function; a generator that is not async; the
            decorated object is not a function, or holds a wire, which would have no value; the
            name is not one line of text; or `policy` is not a Policy.
    """

    def decorate(function: Callable[..., Any]) -> Step[..., Any]:
        inner = function_of(function, "step")
        if in_definition():
            refuse_wires(inner, f"step {inner.__name__!r}", _TAKEN)
        where = place(*defined_at(inner.__code__))
        kind = _kind(inner, where, thread=thread)
        _refuse_bare(inner, where)
        named = name_of(name, inner, "step")
        return Step(function, kind, named, _policy(named, policy), where)

    return decorate if function is None else decorate(function)


_TAKEN = "take its value as a parameter, and pass {wire} in the call"


def _policy(name: str, given: object) -> Policy:
    if given is None:
        return NO_POLICY
    if isinstance(given, Policy):
        return given
    raise DefinitionError(
        f"{called_at()}: step {name!r} is given policy={given!r:.80}; write it as "
        "policy=Policy(timeout_s=5)"
    )


def _refuse_bare(function: Callable[..., Any], where: str) -> None:
    for name, parameter in deferred.signature(function).parameters.items():
        if parameter.default is injected and parameter.annotation is parameter.empty:
            raise _uninjected(function.__name__, where, name, "has no annotation")


def _uninjected(step: str, where: str, name: str, annotation: str) -> DefinitionError:
    return DefinitionError(
        f"{where}: parameter {name!r} of step {step!r} has the default `injected`, but "
        f"{annotation}; the engine injects by annotation: write `{name}: Context = injected`"
    )


def _kind(function: Callable[..., Any], where: str, *, thread: bool) -> Kind:
    name = function.__name__
    if inspect.isgeneratorfunction(function):
        raise DefinitionError(
            f"{where}: step {name!r} is a generator that is not async; write `async def {name}` "
            "to give a stream of chunks, or return a list"
        )
    if inspect.isasyncgenfunction(function):
        kind = Kind.STREAM
    elif inspect.iscoroutinefunction(function):
        kind = Kind.ASYNC
    else:
        return Kind.THREAD if thread else Kind.PLAIN
    if thread:
        raise DefinitionError(
            f"{where}: @step(thread=True) on `async def {name}`: a thread runs a plain function; "
            f"write `def {name}`, or leave `thread=True` out"
        )
    return kind
