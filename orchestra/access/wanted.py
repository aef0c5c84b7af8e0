"""What a new key is to be, and whether it may be that. Pure.

Deny by default: a key that may do nothing at all is refused rather than made, since somebody has
forgotten what it is for; and so is one that belongs to nobody.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import attrs

from orchestra.accounts import NO_ALLOWANCE, KeyAllowance
from orchestra.errors import StoreError

NAME_CHARS = 100
NAMES_MAX = 100
"""Pipelines, and models, that one key may name; more than that are `*`."""
AT_ONCE_MAX = 1000
"""Each of them is a lease, which is kept. The same as in the configuration."""
PER_MINUTE_MAX = 2**53
MONEY_MAX = 10**15
"""A million dollars: the same as in the configuration."""

_MOST = {
    "requests_per_minute": (1, PER_MINUTE_MAX),
    "tokens_per_minute": (1, PER_MINUTE_MAX),
    "concurrency": (1, AT_ONCE_MAX),
    "day_nanodollars": (0, MONEY_MAX),
    "month_nanodollars": (0, MONEY_MAX),
}


@attrs.frozen(kw_only=True)
class NewKey:
    """A key that somebody wants: whose it is, what it may be used for, and for how long.

    `pipelines` and `models` are names, or `*` for all of them; a route is named as a model.
    `lasts_s` is from its creation; None is for ever.
    """

    organisation: str = ""
    user: str = ""
    name: str = ""
    pipelines: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    allowance: KeyAllowance = NO_ALLOWANCE
    lasts_s: float | None = None


def check(wanted: NewKey) -> None:
    """Nothing, if such a key may be made.

    Raises:
        StoreError: it may not be; all that is wrong is told.
    """
    if found := list(_wrong(wanted)):
        raise StoreError("\n".join(found))


def check_lasting(what: str, seconds: float | None, *, least_s: float = 0.0) -> None:
    """Nothing, if that is a time that a key or a secret may go on for.

    Raises:
        StoreError: it is not.
    """
    if found := list(_wrong_time(what, seconds, least_s)):
        raise StoreError(found[0])


def _wrong(wanted: NewKey) -> Iterator[str]:
    if not wanted.organisation and not wanted.user:
        yield "a key belongs to somebody: say organisation, user, or both"
    if not wanted.pipelines and not wanted.models:
        yield "a key that may do nothing is of no use: say pipelines, models, or both ('*' is all)"
    for what in ("organisation", "user", "name"):
        if said := getattr(wanted, what):
            yield from _wrong_name(what, said)
    for what in ("pipelines", "models"):
        names: tuple[str, ...] = getattr(wanted, what)
        if len(names) > NAMES_MAX:
            yield f"{what}: {len(names)} names are too many; name up to {NAMES_MAX}, or '*'"
        for name in names[:NAMES_MAX]:
            yield from _wrong_name(what, name)
    for what, (least, most) in _MOST.items():
        limit: int | None = getattr(wanted.allowance, what)
        if limit is not None and not least <= limit <= most:
            yield f"{what}: {limit} is out of bounds; it may be {least} to {most}"
    yield from _wrong_time("lasts_s", wanted.lasts_s, 1.0)


def _wrong_name(what: str, name: str) -> Iterator[str]:
    """Names are compared letter by letter, and shown in tables, logs and paths of keys."""
    if not 0 < len(name) <= NAME_CHARS:
        yield f"{what}: a name has 1 to {NAME_CHARS} characters, not {len(name)}"
    elif not name.isprintable() or name != name.strip():
        yield f"{what}: {name!a} begins or ends with a space, or has a control character in it"
    elif not unicodedata.is_normalized("NFC", name):
        yield f"{what}: {name!a} looks like another name that is spelled otherwise; write it in NFC"
    elif what in ("organisation", "user") and "/" in name:
        yield f"{what}: {name!r} has a / in it, which is between organisation and user"


def _wrong_time(what: str, seconds: float | None, least_s: float) -> Iterator[str]:
    if seconds is not None and not least_s <= seconds <= LASTS_MAX_S:
        yield f"{what}: {seconds:g} s is out of bounds; it may be {least_s:g} s to 100 years"


LASTS_MAX_S = 100 * 365 * 86_400.0
