"""Observers: they are told of runs and of calls of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestra.events import Event
    from orchestra.policies.observed import CallEnded


class Observer(Protocol):
    """Something that counts or traces. It is called in the task of the run or the call."""

    def observe(self, pipeline: str) -> Callable[[Event], None]:
        """A function to be called with the events of a run, without the chunks of its output."""

    def called(self, ended: CallEnded) -> None:
        """A call of a model has ended."""


class Observers:
    """Several observers as one."""

    def __init__(self, *each: Observer) -> None:
        self._each = each

    def observe(self, pipeline: str) -> Callable[[Event], None]:
        """A function that passes the events of a run to all of them."""
        all_told = [each.observe(pipeline) for each in self._each]

        def saw(event: Event) -> None:
            for told in all_told:
                told(event)

        return saw

    def called(self, ended: CallEnded) -> None:
        """Pass an ended call to all of them."""
        for each in self._each:
            each.called(ended)


def together(*each: Observer | None) -> Observer | None:
    """Those that are not None, as one observer; None if all are."""
    found = [one for one in each if one is not None]
    return Observers(*found) if len(found) > 1 else found[0] if found else None
