"""Observers of runs and of model calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.policies.observed import ObservesCalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestra.events import Event
    from orchestra.policies.money.ledger import Reached, Refusal
    from orchestra.policies.observed import CallEnded


class Observers(ObservesCalls):
    """Several observers as one."""

    def __init__(self, *each: ObservesCalls) -> None:
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

    def on_budget(self, told: Reached | Refusal) -> None:
        """Pass a threshold of a budget, or a refusal, to all observers."""
        for each in self._each:
            each.on_budget(told)


def together(*each: ObservesCalls | None) -> ObservesCalls | None:
    """The observers that are not None, as one observer; None if all are None."""
    found = [one for one in each if one is not None]
    return Observers(*found) if len(found) > 1 else found[0] if found else None
