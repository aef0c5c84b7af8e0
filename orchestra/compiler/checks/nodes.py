"""Checks of single nodes: the call, the bounds, the policy."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from enum import Enum
from itertools import combinations
from typing import Any, Literal, get_args, get_origin

from orchestra.annotations.facts import (
    MISSING,
    Fit,
    accepts,
    chunk_of,
    compare,
    element,
    spell,
    yielded,
)
from orchestra.annotations.fits import enumerated
from orchestra.annotations.pydantic_models import is_field
from orchestra.compiler.checks.arguments import hidden_problem, wires_held
from orchestra.compiler.checks.texts import template_problems
from orchestra.compiler.checks.uncalled import uncalled
from orchestra.graph.control.agreeing import Comparison, Quorum
from orchestra.graph.control.labels import labels_of
from orchestra.graph.nodes import (
    Call,
    Constant,
    Each,
    Fallback,
    Input,
    Node,
    Race,
    Route,
    is_stream,
    type_of,
)
from orchestra.graph.rules.commits import Chars, Chunks
from orchestra.graph.rules.policy import is_count
from orchestra.graph.steps import Kind, Step
from orchestra.graph.wires import spelled
from orchestra.messages import safe_repr
from orchestra.nearest import nearest_name
from orchestra.problem import Problem
from orchestra.values import Label


def node_problems(node: Node) -> Iterator[Problem]:
    """The problems of a node that do not depend on its wires."""
    match node:
        case Call():
            yield from node.faults
            yield from _generator(node.step)
            yield from _policy(node)
            yield from template_problems(node)
        case Each():
            yield from _each(node)
        case Route():
            yield from _route(node)
        case Race() | Fallback():
            yield from _commit(node)
        case Comparison():
            yield from _comparison(node)
        case Input():
            yield from _default(node)
        case Constant():
            hidden = next(wires_held(node.value), None)
            if hidden is not None:
                place = "the pipeline"
                yield hidden_problem(place, node.value, hidden, node.origin.where)


def _default(node: Input) -> Iterator[Problem]:
    if node.default is not MISSING and not accepts(node.annotation, node.default):
        kind = spell(node.annotation)
        message = f"input {node.name!r} is {kind}, but its default is {safe_repr(node.default)}"
        fix = "change the default, or widen the annotation"
        if is_field(node.default):
            fix = f"write `{node.name}: Annotated[{kind}, Field(...)]`, and any default behind it"
        yield Problem("type-clash", node.origin.where, message, fix)


def _generator(step: Step[..., object]) -> Iterator[Problem]:
    """Generators annotated as functions, and functions annotated as generators."""
    returns = step.annotated_return
    if step.kind is Kind.STREAM and returns is not MISSING and yielded(returns) is None:
        message = f"step {step.name!r} yields chunks, but is annotated `-> {spell(returns)}`"
        chunk = chunk_of(returns)
        fix = f"annotate it `-> AsyncIterator[{spell(returns if chunk is None else chunk)}]`"
        yield Problem("generator-annotation", step.where, message, fix)
    chunk = chunk_of(returns) if yielded(returns) is None else yielded(returns)
    if step.kind is not Kind.STREAM and chunk is not None:
        message = f"step {step.name!r} is annotated `-> {spell(returns)}`, but has no `yield`"
        fix = f"write `async def {step.name}(...) -> AsyncIterator[{spell(chunk)}]` and yield its "
        fix += "chunks (those of a stream it reads: `async for chunk in stream: yield chunk`), or "
        fix += "annotate the value that it returns"
        yield Problem("no-yield", step.where, message, fix)


def _policy(node: Call) -> Iterator[Problem]:
    policy, kind = node.policy, node.step.kind
    if kind is not Kind.STREAM:
        for name in ("first_chunk_s", "idle_s"):
            if getattr(policy, name) is not None:
                message = f"{node.spelled} has a policy with {name}, but gives one value"
                fix = "use timeout_s; first_chunk_s and idle_s are for streams"
                yield Problem("policy-unfit", node.origin.where, message, fix)
    if kind in (Kind.PLAIN, Kind.THREAD) and policy.timeout_s is not None:
        message = f"{node.spelled} has timeout_s, but a plain function cannot be interrupted"
        fix = "make it `async def`, or set deadline_s on the pipeline"
        yield Problem("policy-unfit", node.origin.where, message, fix)
    yield from _retry(node)


def _retry(node: Call) -> Iterator[Problem]:
    """Retries that cannot work: of plain functions, and of calls that read a stream."""
    if node.policy.retry is None:
        return
    where = node.origin.where
    if node.step.kind is Kind.PLAIN:
        message = f"{node.spelled} has a retry, but a plain function cannot wait between two "
        message += "attempts: it would fail again"
        fix = "make it `async def`, or @step(thread=True), if a later call may succeed; else leave "
        fix += "retry out"
        yield Problem("policy-unfit", where, message, fix)
    for edge in node.edges:
        if is_stream(edge.wire):
            message = f"{node.spelled} has a retry, but reads the stream {spelled(edge.wire)}: "
            message += "what a failed attempt has read is gone"
            fix = f"pass it collect({spelled(edge.wire)}), or give the retry to the stream's step"
            yield Problem("policy-unfit", where, message, fix)


def _each(node: Each) -> Iterator[Problem]:
    where = node.origin.where
    at_once: object = node.at_once  # it may be a wire
    if at_once is None:
        fix = "say how many may run at once: each(items, body, at_once=8)"
        yield Problem("missing-bound", where, "each(...) is called without `at_once`", fix)
    elif not is_count(at_once):
        message = f"each(at_once={at_once!r}): at_once must be a number of items, 1 or more"
        fix = "write it as a number: each(items, body, at_once=8)"
        yield Problem("bad-bound", where, message, fix)
    most: object = node.failures_max
    if most is not None and not is_count(most):
        message = f"each(failures_max={most!r}): failures_max must be a number of items, 1 or more"
        fix = "write it as a number, or leave it out: then the first failure fails the `each`"
        yield Problem("bad-bound", where, message, fix)
    items = Any if any(uncalled(node.items)) else type_of(node.items)  # reported by its own check
    if chunk_of(items) is None and items is not MISSING and element(items) is MISSING:
        message = f"each(items): {spelled(node.items)} is {spell(items)}, which has no items"
        yield Problem("not-iterable", where, message, "pass a list or a stream")
    elif items is str or items is bytes:
        message = f"each(items): {spelled(node.items)} is {spell(items)}, and its items would be "
        message += "its characters" if items is str else "its bytes, as numbers"
        fix = "pass a list, made by a step that splits it, as by `text.splitlines()`"
        yield Problem("not-iterable", where, message, fix)
    if is_stream(node.body):
        message = f"the body of each gives a stream, {spell(type_of(node.body))}"
        fix = "collect(...) it in the body: one value for each item"
        yield Problem("stream-in-each", where, message, fix)


def _commit(node: Race | Fallback) -> Iterator[Problem]:
    """Commit rules that count chunks or characters that the arms do not have."""
    if not isinstance(node.commit, Chunks | Chars):
        return
    for arm, name in zip(node.arms, node.arm_names, strict=True):
        kind = type_of(arm)
        chunk = chunk_of(kind)
        fix = "leave out commit=..., or use complete()"
        if chunk is None and kind is not MISSING:
            message = f"{node.label}(commit={node.commit}): arm {name} is {spell(kind)}, one value"
            yield Problem("commit-unfit", node.origin.where, message, fix)
            return
        if isinstance(node.commit, Chars) and compare(chunk, str | bytes) is Fit.CANNOT:
            message = f"{node.label}(commit={node.commit}): chunks of {spell(chunk)} are not text"
            fix = f"count them whole: commit=chunks({node.commit.count})"
            yield Problem("commit-unfit", node.origin.where, message, fix)
            return


def _route(node: Route) -> Iterator[Problem]:
    kind = type_of(node.on)
    if kind is MISSING or any(uncalled(node.on)):
        return  # reported by its own check
    if chunk_of(kind) is not None:
        return  # reported as a stream into a value
    labels = labels_of(node.on)
    values = labels or _values(kind)
    without = [value for value in values if value not in node.keys]
    meant: list[object] = []
    for key in node.keys:
        known = key in labels if labels else _possible(kind, key) or key in values
        if not known:
            meant.append(_key_meant(key, without))
            yield _unreachable(node, key, labels, meant[-1])
    if not node.has_default:
        missing = [value for value in without if value not in meant]
        if missing:
            names = ", ".join(map(_written, missing))
            message = f"route: {spelled(node.on)} can be {names}, and there is no arm for that"
            fix = "add arms for them, or default=..."
            yield Problem("missing-arm", node.origin.where, message, fix)


def _possible(kind: object, key: Hashable) -> bool:
    if kind is Label:
        return compare(type(key), str) is not Fit.CANNOT
    return accepts(kind, key)


def _unreachable(node: Route, key: Hashable, labels: Sequence[str], meant: object) -> Problem:
    """The problem of an arm that no label selects; `meant` is the label it was probably for."""
    on, kind = spelled(node.on), type_of(node.on)
    if labels:
        message = f"route: {on} is {' or '.join(map(repr, labels))}, and can never be {key!r}"
        fix = f"remove the arm {key!r}, or add it to the labels"
    elif kind is Label:
        message = f"route: a label's name is a string, and can never be {key!r}"
        fix = "use the label's name as key"
    else:
        message = f"route: {on} is {spell(kind)}, and can never be {key!r}"
        fix = f"remove the arm {key!r}"
    if meant is not None:
        fix = f"write {_written(meant)}: ..."
    return Problem("unreachable-arm", node.origin.where, message, fix)


def _key_meant(key: Hashable, without: Sequence[object]) -> object:
    """The label without an arm that the key was probably meant for; None where unclear."""
    for value in without:
        if isinstance(value, Enum) and value.value == key:
            return value
    texts = [value for value in without if isinstance(value, str)]
    return (nearest_name(key, texts) or None) if isinstance(key, str) else None


def _values(kind: object) -> tuple[object, ...]:
    """All possible labels of a Literal, an enum or a bool; else empty."""
    kinds = enumerated(kind) or (kind,)
    return tuple(value for each in kinds if get_origin(each) is Literal for value in get_args(each))


def _written(value: object) -> str:
    return str(value) if type(value).__str__ is Enum.__str__ else repr(value)


def _comparison(node: Comparison) -> Iterator[Problem]:
    """Arms that stream; and arms of a quorum whose values can never be equal."""
    streaming = False
    for arm, name in zip(node.arms, node.arm_names, strict=True):
        kind = type_of(arm)
        if kind is not MISSING and chunk_of(kind) is not None:
            streaming = True
            message = f"{node.label}(arm {name}) is {spell(kind)}, but whole answers are compared"
            fix = f"collect({spelled(arm)})"
            yield Problem("stream-into-value", node.origin.where, message, fix)
    if not streaming and isinstance(node, Quorum) and node.agree is None:
        yield from _never_equal(node)


def _never_equal(node: Quorum) -> Iterator[Problem]:
    named = [(name, type_of(arm)) for name, arm in zip(node.arm_names, node.arms, strict=True)]
    for (name, kind), (other, second) in combinations(named, 2):
        if kind is MISSING or second is MISSING:
            continue
        if compare(kind, second) is compare(second, kind) is Fit.CANNOT:
            message = f"quorum: arm {name} is {spell(kind)} and arm {other} is {spell(second)}, "
            message += "which are never equal"
            fix = "convert them to one type in a step, or say when they agree: agree=..."
            yield Problem("type-clash", node.origin.where, message, fix)
            return
