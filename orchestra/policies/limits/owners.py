"""The owners of limits for one caller's calls, and the lines (queues) the calls wait in. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from orchestra.accounts import Caller
from orchestra.policies.limits.allowance import Kind, Owner, Rules


@attrs.frozen(eq=False)
class Owners:
    """The owners of limits for a caller's calls, their state keys, and the lines to wait in."""

    all: tuple[Owner, ...]
    keys: tuple[str, ...]
    lines: tuple[tuple[str, Kind], ...]
    """The name of each line and the kind of its owner; the narrowest (a key's) first."""
    wait_max_s: float
    waiting_max: int

    @classmethod
    def of(cls, rules: Rules, scope: str, caller: Caller) -> Owners:
        """The owners for a caller; `UNLIMITED` if it has no limits."""
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
    """The lines of a caller, the narrowest first.

    In a limited organisation, every user has a line, even without limits of its own; so has every
    caller of a limited model. So they take turns.
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
