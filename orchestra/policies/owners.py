"""Whose limits the calls of one caller have to keep, and in which lines they wait for it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from orchestra.accounts import Caller
from orchestra.policies.limits.allowance import Kind, Owner, Rules


@attrs.frozen(eq=False)
class Owners:
    """Whose limits the calls of a caller have to keep, where they are kept, and who waits where."""

    all: tuple[Owner, ...]
    keys: tuple[str, ...]
    lines: tuple[tuple[str, Kind], ...]
    """The names of the lines, and whose they are: of key, user, organisation, as far as needed."""
    wait_max_s: float
    waiting_max: int

    @classmethod
    def of(cls, rules: Rules, scope: str, caller: Caller) -> Owners:
        """Those of a caller: none, where nobody has set limits."""
        owners = rules.owners(caller, scope)
        if not owners:
            return UNLIMITED
        return cls(
            owners,
            tuple(owner.key for owner in owners),
            tuple(_lines(owners, caller)),
            min(owner.limits.wait_max_s for owner in owners),
            min(owner.limits.waiting_max for owner in owners),
        )


def _lines(owners: tuple[Owner, ...], caller: Caller) -> Iterator[tuple[str, Kind]]:
    """A user of an organisation has a line for its sake, also without limits of their own.

    So has everybody for the sake of a model, whose callers have their turns.
    """
    last = owners[-1]
    for owner in owners:
        if owner.kind == "key" or (owner.kind == "user" and owner is last):
            yield owner.key, owner.kind
    if last.kind == "model":
        yield f"{last.key} {caller.full_user}", "user"
    elif last.kind == "organisation":
        yield f"{last.key} {caller.user}", "user"
    if last.kind in {"model", "organisation"}:
        yield last.key, last.kind


UNLIMITED = Owners((), (), (), 0.0, 0)
