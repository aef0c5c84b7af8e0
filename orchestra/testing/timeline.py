"""A simulated run as a timeline, one line per event, for finding a fault."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import attrs

from orchestra.accounts import Usage
from orchestra.annotations.shapes import same
from orchestra.events import UNWRITTEN, Event

_MOST = 60  # lines of a run; a longer one is cut in the middle
_LEFT_OUT = {"seq", "at_s", "step", "run_id", *UNWRITTEN}


def timeline(events: Sequence[Event]) -> str:
    """One line per event: its number, its virtual second, its type, and its step.

    Fields with default values are left out, and of more than 60 events those in the middle.
    """
    half = _MOST // 2
    shown = [_line(event) for event in events[:half]]
    if len(events) > _MOST:
        shown.append(f"      ... {len(events) - _MOST} more ...")
    return "\n".join([*shown, *map(_line, events[max(half, len(events) - half) :])])


def _line(event: Event) -> str:
    rest = []
    for field in attrs.fields(type(event)):
        value = getattr(event, field.name)
        if field.name not in _LEFT_OUT and not same(value, field.default):
            shown = _usage(value) if isinstance(value, Usage) else repr(value)
            rest.append(f"{field.name}={shown:.200}")
    words = [event.type.ljust(14), getattr(event, "step", ""), *rest]
    return f"{event.seq:>5}  {event.at_s:.9g} s  {' '.join(filter(None, words))}"


def _usage(usage: Usage) -> str:
    """The usage as text, without counts of 0: most calls have two numbers."""
    counts = []
    for field in attrs.fields(Usage):
        value = getattr(usage, field.name)
        if field.repr and value != field.default:
            counts.append(f"{field.name}={value.value if isinstance(value, Enum) else value!r}")
    return f"Usage({', '.join(counts)})"


def hypothesis_notes(title: str, lines: Callable[[], str]) -> None:
    """Let Hypothesis print runs with a failing example; no effect elsewhere."""
    if in_hypothesis():
        from hypothesis import note  # optional outside Hypothesis

        note(_Lazily(title, lines))


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
