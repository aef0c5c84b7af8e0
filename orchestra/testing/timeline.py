"""A simulated run as a timeline, one line per event, for finding a fault."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from itertools import groupby
from typing import Any

import attrs

from orchestra.accounts import Usage
from orchestra.annotations.shapes import same
from orchestra.events import UNWRITTEN, Event, StepSkipped

_MOST = 60  # lines of a run; a longer one is cut in the middle
_STEPS = 100  # characters of the names of steps that share a line
_LEFT_OUT = {"seq", "at_s", "step", "run_id", *UNWRITTEN}


def timeline(events: Sequence[Event], *, several: bool = False) -> str:
    """One line per event: its number, its virtual second, its type, and its step.

    Steps that are skipped together, as those of an arm, share a line. Fields with default values
    are left out, and of more than 60 lines those in the middle. With `several`, the number is that
    of the event's run.
    """

    def line_of(event: Event) -> tuple[object, ...]:
        if isinstance(event, StepSkipped):
            return (event.seq if several else 0, event.at_s, event.reason)
        return (id(event),)

    groups = [list(group) for _, group in groupby(events, line_of)]
    half = _MOST // 2
    shown = [_line(*group) for group in groups[:half]]
    if len(groups) > _MOST:
        shown.append(f"      ... {len(groups) - _MOST} more ...")
    return "\n".join(
        [*shown, *(_line(*group) for group in groups[max(half, len(groups) - half) :])]
    )


def _line(event: Event, *others: Event) -> str:
    rest = []
    for field in attrs.fields(type(event)):
        value, default = getattr(event, field.name), field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # it is a class at run time
            default = default.factory()
        if field.name not in _LEFT_OUT and not same(value, default):
            rest.append(f"{field.name}={_shown(value):.200}")
    steps = ", ".join(filter(None, (getattr(each, "step", "") for each in (event, *others))))
    if len(steps) > _STEPS:
        steps = f"{steps[:_STEPS]}... ({1 + len(others)} steps)"
    words = [event.type.ljust(14), steps, *rest]
    return f"{event.seq:>5}  {event.at_s:.9g} s  {' '.join(filter(None, words))}"


def _shown(value: object) -> str:
    if isinstance(value, Usage):
        return _usage(value)
    if isinstance(value, Mapping) and value and all(isinstance(v, Usage) for v in value.values()):
        return f"{{{', '.join(f'{name!r}: {_usage(usage)}' for name, usage in value.items())}}}"
    return repr(value)


def _usage(usage: Usage) -> str:
    """The usage as text, without counts of 0: most calls have two numbers."""
    counts = []
    for field in attrs.fields(Usage):
        value = getattr(usage, field.name)
        if field.repr and value != field.default:
            counts.append(f"{field.name}={value.value if isinstance(value, Enum) else value!r}")
    return f"Usage({', '.join(counts)})"


def hypothesis_notes(
    title: str, lines: Callable[[], str], ends: Sequence[tuple[str, Exception | None]]
) -> None:
    """Let Hypothesis print runs with a failing example; no effect elsewhere.

    Its statistics count how the runs of each pipeline ended, so that one sees what examples reach.
    """
    if in_hypothesis():
        from hypothesis import event, note  # optional outside Hypothesis

        note(_Lazily(title, lines))
        for name, error in ends:
            event(f"{name!r}: {'finished' if error is None else type(error).__name__}")


def in_hypothesis() -> bool:
    """Whether a Hypothesis test is running, which prints its runs if it fails."""
    if "hypothesis" not in sys.modules:
        return False
    from hypothesis import currently_in_test_context  # imported already

    return currently_in_test_context()


@attrs.frozen
class _Lazily:
    """A run whose text is made only when it is printed."""

    title: str
    lines: Callable[[], str]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        del cycle
        printer.text(f"{self.title}\n{self.lines()}")
