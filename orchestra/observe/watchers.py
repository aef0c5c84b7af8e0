"""Who is told of runs and of the calls of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestra.events import Event
    from orchestra.policies.observed import CallEnded


class Watcher(Protocol):
    """One that counts, or traces. It is told at once, in the task of the run or the call."""

    def observe(self, pipeline: str) -> Callable[[Event], None]:
        """Who is told the events of a run of this pipeline, but the chunks of its output."""

    def called(self, ended: CallEnded) -> None:
        """Be told of a call of a model that has ended."""


class Watchers:
    """Several of them, as one."""

    def __init__(self, *each: Watcher) -> None:
        self._each = each

    def observe(self, pipeline: str) -> Callable[[Event], None]:
        """Who tells all of them the events of a run."""
        all_told = [each.observe(pipeline) for each in self._each]

        def saw(event: Event) -> None:
            for told in all_told:
                told(event)

        return saw

    def called(self, ended: CallEnded) -> None:
        """Tell all of them of a call."""
        for each in self._each:
            each.called(ended)


def together(*each: Watcher | None) -> Watcher | None:
    """Those that there are, as one; None where there are none."""
    found = [one for one in each if one is not None]
    return Watchers(*found) if len(found) > 1 else found[0] if found else None
