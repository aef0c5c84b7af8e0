"""Agreeing: constructs that compare the complete answers of several arms.

A `quorum` gives the answer that enough arms agree on. `best_of` is three nodes: one collects
the answers of the arms that did not fail, the judge chooses, and one picks. So the judge is a
step like any other, with its own policy, its own usage, and its own failure.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property, partial
from math import inf
from typing import Any, TypeAlias, TypeVar, cast

from orchestra.annotations.deferred import annotate
from orchestra.annotations.facts import MISSING, chunk_of
from orchestra.annotations.shapes import union
from orchestra.errors import DefinitionError, JudgeError
from orchestra.eventclass import frozen
from orchestra.graph.calls.mistakes import explain_wrong_calls
from orchestra.graph.control.arguments import arms_of, plain_function
from orchestra.graph.definition import definition_for
from orchestra.graph.nodes import Choice, type_of
from orchestra.graph.rules.hedging import stagger
from orchestra.graph.rules.policy import is_count
from orchestra.graph.source.decorated import Decorated
from orchestra.graph.source.frames import called_at
from orchestra.graph.steps import Step, step
from orchestra.graph.wires import Wire, node_of, spelled

T = TypeVar("T")
Agree: TypeAlias = Callable[[object, object], object]
"""Whether two answers are the same answer."""


@frozen(eq=False)
class Comparison(Choice):
    """A choice that compares the complete values of its arms; no arm may stream."""

    @cached_property
    def kind(self) -> object:
        """The annotation of an arm's value; Any if an arm has a problem, which `check` reports."""
        kinds = [type_of(arm) for arm in self.arms]
        wrong = any(kind is MISSING or chunk_of(kind) is not None for kind in kinds)
        return Any if wrong else union(kinds)

    @property
    @abstractmethod
    def why(self) -> str:
        """When the node's value exists, as the streaming report says it."""


@frozen(eq=False)
class Quorum(Comparison):
    """The value that `count` of the arms agree on; the other arms are cancelled at once."""

    label = "quorum"

    count: int
    agree: Agree | None = None
    stagger_s: float = 0.0
    """Seconds between the starts of two arms after the first `count`, which start at once."""

    @property
    def returns(self) -> object:
        return self.kind

    @property
    def why(self) -> str:
        return f"available when {self.count} of {len(self.arms)} arms agree"

    def arms_before(self, arm: int) -> tuple[Wire, ...]:
        in_turn = self.stagger_s == inf and arm >= self.count
        return self.arms[:arm] if in_turn else ()


@frozen(eq=False)
class Survivors(Comparison):
    """The values of the arms that did not fail, in the order of the arms; `least` at least."""

    label = "best_of"

    least: int = 1

    @property
    def returns(self) -> object:
        return list[self.kind]  # type: ignore[name-defined]

    @property
    def why(self) -> str:
        return f"available when each of {len(self.arms)} arms has given its value or failed"


@explain_wrong_calls
def quorum(
    count: int, *arms: T, agree: Callable[[T, T], bool] | None = None, stagger_s: float = 0.0
) -> T:
    """The value that `count` of the arms agree on; the others are cancelled at that moment.

    The first `count` arms start at once, and each of the others `stagger_s` seconds (0 by
    default) after the one before it, or as soon as those that have started can no longer agree:
    with `float("inf")`, only then. Two values agree when they are equal or, with `agree`, when
    `agree(first, other)` is true; `agree` is a plain function, and should be quick. A value is
    compared with the first value of each group of agreeing values, and joins at most one group;
    the result is the group's first value. When `agree` raises, the arm has failed.

    An arm that fails is left out. As soon as too many have failed or disagreed for `count` to
    agree, the others are cancelled and the run fails with a `NoQuorumError` that lists what
    each arm gave. Arms give values: `collect(...)` a stream.

    Raises:
        DefinitionError: called outside a pipeline; `count` is not a number from 1 to the number of
            arms, `agree` not a plain function, or `stagger_s` not a number of seconds.
    """
    definition = definition_for("quorum")
    wires = arms_of("quorum", arms) if arms else ()  # none if `count` is an arm
    _refuse_count(count, wires)
    if agree is not None:
        does = "takes two answers and returns whether they agree"
        plain_function("quorum", "agree", agree, does, instead=_COMPARABLE)
    same, wait_s = cast("Agree | None", agree), stagger("quorum", stagger_s)
    return cast("T", definition.add(lambda origin: Quorum(origin, wires, count, same, wait_s)))


@explain_wrong_calls
def best_of(*arms: T, judge: Callable[[list[T]], int], least: int = 1) -> T:
    """The value of the arm that the judge chooses, unchanged.

    All arms start at once; those that fail are left out. The judge is given the other values, in
    the order of the arms, and returns the index of the best, from 0. It is a plain function, a
    step or a pipeline. Some of its arguments may be given, and these may be wires:
    `judge=partial(orchestra.steps.judge, question=question)`. A judge that fails fails the run.

    As soon as fewer than `least` arms are left, the others are cancelled and the run fails with
    an `ArmsFailedError` that lists the error of each. A wrong index is a `JudgeError`.
    Arms give values: `collect(...)` a stream.

    Raises:
        DefinitionError: called outside a pipeline, or without arms; `least` is not a number from
            1 to the number of arms, or the judge cannot be called.
    """
    definition = definition_for("best_of")
    wires = arms_of("best_of", arms)
    _refuse_least(least, wires)
    asked = _judge(judge)
    survivors = definition.add(lambda origin: Survivors(origin, wires, least))
    index = asked(survivors)
    kind = cast("Survivors", node_of(survivors)).kind
    return cast("T", _picking(kind)(survivors, index))


def _refuse_count(count: object, wires: tuple[Wire, ...]) -> None:
    if is_count(count) and count <= len(wires):
        return
    # Without a count, the first arm is in its place.
    arms = [spelled(wire) for wire in ((count, *wires) if isinstance(count, Wire) else wires)]
    given = ", ".join([f"{count!r:.80}", *map(spelled, wires)])
    right = ", ".join([str(len(arms) // 2 + 1), *(arms or ["one", "two", "three"])])
    raise DefinitionError(
        f"{called_at()}: quorum({count!r:.80}, ...) of {len(wires)} arms: the number of arms that "
        "have to agree must be a whole number, from 1 to the number of arms, known when the "
        f"pipeline is defined\n    wrong: quorum({given})\n    right: quorum({right})"
    )


def _refuse_least(least: object, wires: tuple[Wire, ...]) -> None:
    if not is_count(least) or least > len(wires):
        raise DefinitionError(
            f"{called_at()}: best_of(least={least!r:.80}) of {len(wires)} arms: the number of arms "
            "that must not fail must be a whole number, from 1 to the number of arms, known when "
            "the pipeline is defined: least=1"
        )


def _judge(judge: object) -> Callable[[Wire], object]:
    """The callable that adds the judge's node: a step or pipeline, or a step made of a function."""
    inner = judge
    while isinstance(inner, partial):
        inner = inner.func
    if isinstance(inner, Decorated):
        return cast("Callable[[Wire], object]", judge)
    does = "takes the answers and returns the index of the best"
    plain = plain_function("best_of", "judge", inner, does, instead=_GIVEN)
    name = getattr(plain, "__name__", "judge")
    stepped = step(name="judge" if name == "<lambda>" else name)(plain)
    if isinstance(judge, partial):
        return partial(stepped, *judge.args, **judge.keywords)
    return stepped


_COMPARABLE = (
    "convert each arm's answer into a comparable value in a step: comparable(answer, {wire}), with "
    "`@step def comparable(answer: str, {name}: str) -> str: ...`"
)
_GIVEN = (
    "make the value a parameter, and pass it with functools.partial: "
    "judge=partial(best, {name}={wire}), with "
    "`def best(answers: list[str], {name}: str) -> int: ...`"
)


def _picking(kind: object) -> Step[..., object]:
    """A step that returns the value at the judge's index; the values are of type `kind`."""

    def pick(candidates: list[object], index: int) -> object:
        last = len(candidates) - 1
        if isinstance(index, bool) or not 0 <= index <= last:
            raise JudgeError(
                f"the judge of {last + 1} answers returned {index!r}; it must return the index of "
                f"the best one, a whole number from 0 to {last}"
            )
        return candidates[index]

    annotate(pick, {"candidates": list[kind], "index": int, "return": kind})  # type: ignore[valid-type]
    return step(pick)
