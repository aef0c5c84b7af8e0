"""Limits on each caller's runs in flight.

Rules of the file: runs are counted per process, so that a start never waits; a run's slot is freed
at its end, however it ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs

from orchestra.accounts import Caller
from orchestra.errors import LimitReachedError

if TYPE_CHECKING:
    from orchestra.policies.limits.allowance import CallerRules, Kind


@attrs.frozen
class _Holder:
    """A key, user or organisation with runs in flight; a user belongs to an organisation."""

    kind: Kind
    name: str
    organisation: str


class Running:
    """Counts the runs in flight of each key, user and organisation that has a limit for them."""

    def __init__(self, rules: CallerRules | None = None) -> None:
        self._rules = rules
        self._counts: Counter[_Holder] = Counter()

    def take(self, caller: Caller) -> Callable[[], None] | None:
        """Count a run of this caller; the returned function is to be called when the run ends.

        Returns None if the caller has no limit.

        Raises:
            LimitReachedError: a limit is reached; the run is not counted.
        """
        limits = _limits(self._rules, caller)
        for holder, most in limits.items():
            if self._counts[holder] >= most:
                raise LimitReachedError(
                    f"refused by limit runs of {holder.kind} {holder.name!r}: {most} are in "
                    "flight; wait for one to end, cancel one, or have the limit raised",
                    code=f"{holder.kind}.runs",
                )
        if not limits:
            return None
        self._counts.update(limits.keys())
        return partial(self._give_back, tuple(limits))

    def _give_back(self, taken: tuple[_Holder, ...]) -> None:
        for each in taken:
            self._counts[each] -= 1
            if not self._counts[each]:
                del self._counts[each]


def _limits(rules: CallerRules | None, caller: Caller) -> dict[_Holder, int]:
    """The limits that apply to a run of this caller, each with its holder."""
    organisation, user = caller.organisation, caller.user
    found: dict[_Holder, int] = {}
    if (most := caller.allowance.runs) is not None:
        found[_Holder("key", caller.key, "")] = most
    if rules is None:
        return found
    if user and (most := rules.users.get(user, rules.user).runs) is not None:
        found[_Holder("user", user, organisation)] = most
    if organisation:
        most = rules.organisations.get(organisation, rules.organisation).runs
        if most is not None:
            found[_Holder("organisation", organisation, "")] = most
    return found
