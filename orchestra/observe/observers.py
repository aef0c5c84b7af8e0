"""Observers of runs and of model calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestra.events import Event
    from orchestra.policies.observed import CallEnded


class Observer(Protocol):
    """Counts or traces runs and calls. It is called in the task of the run or the call."""

    def observe(self, pipeline: str) -> Callable[[Event], None]:
        """A function to be called with each event of a run, except the chunks of its output."""

    def called(self, ended: CallEnded) -> None:
        """Note a model call that has ended."""


class Observers:
    """Several observers as one."""

    def __init__(self, *each: Observer) -> None:
        self._each = each

    def observe(self, pipeline: str) -> Callable[[Event], None]:
        """A function that passes the events of a run to all observers."""
        receivers = [each.observe(pipeline) for each in self._each]

        def receive(event: Event) -> None:
            for each in receivers:
                each(event)

        return receive

    def called(self, ended: CallEnded) -> None:
        """Pass an ended call to all observers."""
        for each in self._each:
            each.called(ended)


def together(*each: Observer | None) -> Observer | None:
    """The observers that are not None, as one observer; None if all are None."""
    found = [one for one in each if one is not None]
    return Observers(*found) if len(found) > 1 else found[0] if found else None
