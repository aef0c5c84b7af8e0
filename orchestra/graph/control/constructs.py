"""Control: the constructs of a pipeline that are more than calls of steps.

Each takes wires and returns a wire; for a type checker they take and return values. An arm
is the region of the graph that only it needs: it is started when the arm is taken and
cancelled as a whole when the arm loses. What several arms need runs once, outside.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from math import inf
from types import BuiltinFunctionType, MethodDescriptorType, ModuleType, WrapperDescriptorType
from typing import Any, AnyStr, TypeGuard, TypeVar, cast, overload

from orchestra.annotations.deferred import signature
from orchestra.errors import DefinitionError
from orchestra.failed import Failed
from orchestra.graph.calls.mistakes import explain_wrong_calls
from orchestra.graph.control.arguments import (
    arms_of,
    commit_rule,
    error_types,
    plain_function,
    wires_of,
)
from orchestra.graph.definition import definition_for
from orchestra.graph.gather import wire_of
from orchestra.graph.nodes import Collect, Each, EachItem, Fallback, Race, Route
from orchestra.graph.refusals.silent_tests import refusing_silent_tests_of_items
from orchestra.graph.rules.commits import FIRST_CONTENT, Commit, Validate
from orchestra.graph.rules.hedging import hedge_rule, stagger
from orchestra.graph.source.frames import called_at
from orchestra.graph.wires import Wire, node_of
from orchestra.protocols import Stream

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")

_NONE: Any = object()


@overload
def collect(stream: Stream[AnyStr]) -> AnyStr: ...  # type: ignore[overload-overlap]
@overload
def collect(stream: Stream[T]) -> list[T]: ...
@explain_wrong_calls
def collect(stream: object) -> Any:
    """All chunks of a stream as one value: text or bytes joined, other chunks as a list.

    Raises:
        DefinitionError: called outside a pipeline.
    """
    definition = definition_for("collect")
    source = wire_of(stream)
    return definition.add(lambda origin: Collect(origin, source))


@overload
def race(
    *arms: Stream[str],
    commit: Commit = ...,
    validate: Callable[[str], bool] | None = ...,
    stagger_s: float | None = ...,
    hedge_at: str | float | None = ...,
    hedge_share: float | None = ...,
) -> Stream[str]: ...
@overload
def race(
    *arms: Stream[bytes],
    commit: Commit = ...,
    validate: Callable[[bytes], bool] | None = ...,
    stagger_s: float | None = ...,
    hedge_at: str | float | None = ...,
    hedge_share: float | None = ...,
) -> Stream[bytes]: ...
@overload
def race(
    *arms: Stream[T],
    commit: Commit = ...,
    validate: Callable[[list[T]], bool] | None = ...,
    stagger_s: float | None = ...,
    hedge_at: str | float | None = ...,
    hedge_share: float | None = ...,
) -> Stream[T]: ...
@overload
def race(
    *arms: T,
    commit: Commit = ...,
    validate: Callable[[T], bool] | None = ...,
    stagger_s: float | None = ...,
    hedge_at: str | float | None = ...,
    hedge_share: float | None = ...,
) -> T: ...
@explain_wrong_calls
def race(
    *arms: object,
    commit: Commit = FIRST_CONTENT,
    validate: Callable[[Any], bool] | None = None,
    stagger_s: float | None = None,
    hedge_at: str | float | None = None,
    hedge_share: float | None = None,
) -> Any:
    """The first arm to be committed to; the others are cancelled at that moment.

    For streams, `commit` says when: at the first chunk that is not empty, at `chunks(n)`, at
    `chars(n)`, or when the arm is `complete()`. Empty chunks before the first content are
    dropped. An arm that gives a value commits with the value. Output before the commit is held,
    up to `Limits.held_chunks` and `held_bytes`; an arm that exceeds them has failed. At the
    commit `validate` is called once, with the held output (text or bytes joined, other chunks as
    a list) or the value. If it returns false, the arm has failed with a `RefusedError`. It is a
    plain function, and should be quick.

    An arm that fails before its commit, or ends without any content, is out of the race; when
    all have failed, the run fails with an `ArmsFailedError` that lists each. After the commit,
    a failure is the run's: two answers are never spliced.

    Each arm starts `stagger_s` seconds (0 by default) after the one before it, or as soon as
    all before it have failed. With `hedge_at`, a quantile such as "p95" or 0.95, the delay is
    that quantile of the times to commit of this race's first arm: the last 200 in this engine,
    none older than an hour. A cancelled arm counts as at least the time it had run. Until 20
    times are known the delay is `stagger_s`; without `stagger_s`, no arm starts by time until
    then. Arms started by time are at most `hedge_share` (by default 0.1) per race, plus 10;
    more are started only as soon as all before them have failed.

    Raises:
        DefinitionError: called outside a pipeline, or without arms; `commit` is not a commit rule,
            `validate` not a plain function, `stagger_s` not a number of seconds, `hedge_at` not
            a quantile, or `hedge_share` not a share, or given without `hedge_at`.
    """
    hedge = hedge_rule(hedge_at, hedge_share)
    usual_s = 0.0 if hedge is None else inf
    wait_s = usual_s if stagger_s is None else stagger("race", stagger_s)
    definition = definition_for("race")
    wires = arms_of("race", arms)
    rule, checked = commit_rule("race", commit), _validate("race", validate)
    return definition.add(lambda origin: Race(origin, wires, rule, checked, wait_s, hedge))


@overload
def fallback(
    *arms: Stream[str],
    commit: Commit = ...,
    validate: Callable[[str], bool] | None = ...,
    on: type[Exception] | tuple[type[Exception], ...] = ...,
    restart: bool = ...,
) -> Stream[str]: ...
@overload
def fallback(
    *arms: Stream[bytes],
    commit: Commit = ...,
    validate: Callable[[bytes], bool] | None = ...,
    on: type[Exception] | tuple[type[Exception], ...] = ...,
    restart: bool = ...,
) -> Stream[bytes]: ...
@overload
def fallback(
    *arms: Stream[T],
    commit: Commit = ...,
    validate: Callable[[list[T]], bool] | None = ...,
    on: type[Exception] | tuple[type[Exception], ...] = ...,
    restart: bool = ...,
) -> Stream[T]: ...
@overload
def fallback(
    *arms: T,
    commit: Commit = ...,
    validate: Callable[[T], bool] | None = ...,
    on: type[Exception] | tuple[type[Exception], ...] = ...,
    restart: bool = ...,
) -> T: ...
@explain_wrong_calls
def fallback(
    *arms: object,
    commit: Commit = FIRST_CONTENT,
    validate: Callable[[Any], bool] | None = None,
    on: type[Exception] | tuple[type[Exception], ...] = Exception,
    restart: bool = False,
) -> Any:
    """The first arm; if it fails before it is committed to, the second; and so on.

    `commit` and `validate` are as in a `race`. Later arms are not started until they are
    needed. `on` names the errors of an arm after which the next one is tried, as `except` does;
    any other error fails the run at once. `TimeoutError` includes that of `trio.fail_after`.
    A value that `validate` refuses is a `RefusedError`, an arm without content a `NoContentError`.
    When all have failed, the run fails with an `ArmsFailedError` that lists each.

    With `restart=True` the next arm is also tried when an arm fails after its commit. When that
    arm commits, an `ArmRestarted` event tells readers of the run to discard what they have; the
    result is the new arm's alone. Only allowed for the stream that is the pipeline's result:
    a step cannot give back what it has read.

    Raises:
        DefinitionError: called outside a pipeline, or without arms; `commit` is not a commit rule,
            `validate` not a plain function, `on` not exception classes, or `restart` not a bool.
    """
    given: object = restart  # an untyped caller may pass anything, such as a wire
    if not isinstance(given, bool):
        raise DefinitionError(
            f"{called_at()}: fallback(restart={restart!r:.80}): restart must be True or False, "
            "known when the pipeline is defined"
        )
    definition = definition_for("fallback")
    wires = arms_of("fallback", arms)
    rule, checked = commit_rule("fallback", commit), _validate("fallback", validate)
    kinds = error_types(on)
    return definition.add(lambda origin: Fallback(origin, wires, rule, checked, kinds, restart))


def _validate(name: str, validate: object) -> Validate | None:
    if validate is None:
        return None
    does = "takes an arm's output and returns whether to accept it"
    return plain_function(name, "validate", validate, does, instead=_CHECKED)


_CHECKED = (
    "check it in a step of the arm, which raises if the answer is refused: "
    "checked(answer, {wire}), with `@step def checked(answer: str, {name}: str) -> str: ...`"
)


@explain_wrong_calls
def route(label: object, arms: Mapping[Any, T], *, default: T = _NONE) -> T:
    """The arm whose key equals the label; the others are skipped.

    A `Label` is compared by its name. Without an arm for the label the default is taken;
    without a default the run fails with a `RouteError`.

    Raises:
        DefinitionError: called outside a pipeline, without arms, or with arms that are not a dict.
    """
    if not isinstance(arms, Mapping):
        raise DefinitionError(
            f"{called_at()}: route(..., {arms!r:.80}): the arms must be a dict from each "
            'possible label to the result for it: route(label, {"a": ..., "b": ...})'
        )
    definition = definition_for("route")
    on = wire_of(label)
    wires = wires_of("route", tuple(arms.values()) + (() if default is _NONE else (default,)))
    keys = cast("tuple[Hashable, ...]", tuple(arms))
    has_default = default is not _NONE
    return cast("T", definition.add(lambda origin: Route(origin, wires, on, keys, has_default)))


@overload
def each(
    items: Stream[A],
    body: Callable[[A], B],
    *,
    at_once: int,
    ordered: bool = True,
    failures_max: None = None,
) -> Stream[B]: ...
@overload
def each(
    items: Iterable[A],
    body: Callable[[A], B],
    *,
    at_once: int,
    ordered: bool = True,
    failures_max: None = None,
) -> list[B]: ...
@overload
def each(
    items: Stream[A],
    body: Callable[[A], B],
    *,
    at_once: int,
    ordered: bool = True,
    failures_max: int,
) -> Stream[B | Failed[A]]: ...
@overload
def each(
    items: Iterable[A],
    body: Callable[[A], B],
    *,
    at_once: int,
    ordered: bool = True,
    failures_max: int,
) -> list[B | Failed[A]]: ...
@explain_wrong_calls
def each(
    items: object,
    body: Callable[[Any], object],
    *,
    at_once: int | None = None,
    ordered: bool = True,
    failures_max: int | None = None,
) -> Any:
    """The body's value for every item: of a list as a list, of a stream as a stream.

    The body is a step, a pipeline, or a function of one item that calls some. Steps in it that do
    not depend on the item run once, outside the body. At most `at_once` items are in
    progress: started, and not yet passed on. With `ordered=False` results are passed on in the
    order in which they finish. The first item to fail fails the whole `each`.

    With `failures_max`, up to that many items may fail. In the place of its value, each of them
    has a `Failed` that says which item it was and why. The next failure ends the `each` at once
    with a `LimitExceededError`, whose cause is that item's error. A cancelled item has not
    failed. An error that all other items would meet too, such as a `BudgetExceededError` or a wrong
    API key, ends the `each` at once.

    Raises:
        DefinitionError: called outside a pipeline, or with a body that cannot be called: a wire,
            or the result of a step.
    """
    definition = definition_for("each")
    _refuse_body(body)
    wire = wire_of(items)
    item = definition.add(lambda origin: EachItem(origin, wire))
    with refusing_silent_tests_of_items(body, item, definition.nodes):
        result = wire_of(body(item))
    node = cast("EachItem", node_of(item))
    return definition.add(
        lambda origin: Each(origin, wire, node, result, at_once, failures_max, ordered)
    )


def _refuse_body(body: object) -> None:
    if isinstance(body, Wire) or not callable(body):
        raise DefinitionError(
            f"{called_at()}: each(items, {body!r:.80}): the body must be a step, a pipeline, or a "
            "function of one item; pass it uncalled: each(items, some_step, at_once=8)"
        )
    if _is_builtin(body):
        written = body.__qualname__
        step = f"{body.__name__}_of"
        raise DefinitionError(
            f"{called_at()}: each(items, {written}): it needs a value, but an item has "
            f"none while the pipeline is being defined\n"
            f"    right: each(items, {step}, at_once=8)\n"
            f"    where: @step\n           def {step}(item):\n"
            f"               return {written}(item)"
        )
    try:
        signature(body).bind(None)
    except TypeError as error:
        takes = str(signature(body))
        name = getattr(body, "__name__", f"{body!r:.80}")
        name = f"lambda {takes[1:-1]}: ..." if name == "<lambda>" else name
        raise DefinitionError(
            f"{called_at()}: each(items, {name}): the body is called with one "
            f"item, but takes {takes}; pass the other arguments in a lambda: each(items, "
            "lambda item: some_step(item, other), at_once=8)"
        ) from error
    except ValueError:  # some functions written in C have no signature
        return


def _is_builtin(body: Callable[..., object]) -> TypeGuard[type]:
    """Whether a body is a built-in function, method or class, such as `len` and `str.upper`."""
    if isinstance(body, BuiltinFunctionType):
        return isinstance(body.__self__, ModuleType)
    is_builtin = isinstance(body, type) and body.__module__ == "builtins"
    return is_builtin or isinstance(body, MethodDescriptorType | WrapperDescriptorType)
