"""The wanted properties of a new key, or wanted changes of a key, and their validation. Pure.

Deny by default: a key that may do nothing is refused, since somebody forgot to say what it is for;
and so is a key without an owner.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from math import inf
from types import MappingProxyType

import attrs

from orchestra.access.keys import KeyRecord
from orchestra.accounts import NO_ALLOWANCE, KeyAllowance
from orchestra.errors import StoreError

NAME_CHARS = 100
NAMES_MAX = 100
"""Pipelines, and models, that one key may name; for more there is `*`."""
AT_ONCE_MAX = 1000
"""Each of them is a lease, which is kept. The same as in the configuration."""
PER_MINUTE_MAX = RUNS_MAX = 2**53
MONEY_MAX = 10**15
"""A million dollars: the same as in the configuration."""

_MOST = {
    "requests_per_minute": (1, PER_MINUTE_MAX),
    "tokens_per_minute": (1, PER_MINUTE_MAX),
    "concurrency": (1, AT_ONCE_MAX),
    "runs": (1, RUNS_MAX),
    "day_nanodollars": (0, MONEY_MAX),
    "month_nanodollars": (0, MONEY_MAX),
}


@attrs.frozen(kw_only=True)
class NewKey:
    """The properties of a new key: its owner, what it may be used for, and for how long.

    `pipelines` and `models` are names, or `*` for all of them; a route is named as a model.
    `metrics` is whether it may read what the server counts, and `end_users` whether it may name the
    end user of its organisation for whom a request is.
    `lasts_s` is from its creation; None is for ever.
    """

    organisation: str = ""
    user: str = ""
    name: str = ""
    pipelines: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    metrics: bool = False
    end_users: bool = False
    allowance: KeyAllowance = NO_ALLOWANCE
    lasts_s: float | None = None


@attrs.frozen(kw_only=True)
class KeyChanges:
    """Changes of a key; what is None, or not named, stays as it is.

    `limits` are those of its allowance by name, None for no limit. `lasts_s` counts from now;
    infinity is for ever.
    """

    name: str | None = None
    pipelines: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    metrics: bool | None = None
    end_users: bool | None = None
    limits: Mapping[str, int | None] = MappingProxyType({})
    lasts_s: float | None = None


def check(wanted: NewKey) -> None:
    """Check the properties of a new key.

    Raises:
        StoreError: with everything that is wrong.
    """
    _refuse(_wrong(wanted))


def check_changes(wanted: KeyChanges) -> None:
    """Check changes by themselves; `check_rights` checks the changed key.

    Raises:
        StoreError: with everything that is wrong.
    """
    _refuse(_wrong_in(wanted))


def check_lasting(what: str, seconds: float | None, *, least_s: float = 0.0) -> None:
    """Check how long a key or a secret is to last.

    Raises:
        StoreError: the time is out of bounds.
    """
    _refuse(_wrong_time(what, seconds, least_s))


def check_rights(key: NewKey | KeyRecord) -> None:
    """Check that a key may do anything at all, and has an organisation if it names end users.

    Raises:
        StoreError: it may not, or has none.
    """
    _refuse(_wrong_rights(key))


def _refuse(wrong: Iterable[str]) -> None:
    if found := list(wrong):
        raise StoreError("\n".join(found))


def _wrong(wanted: NewKey) -> Iterator[str]:
    if not wanted.organisation and not wanted.user:
        yield "a key needs an owner: give organisation, user, or both"
    yield from _wrong_rights(wanted)
    for what in ("organisation", "user", "name"):
        if said := getattr(wanted, what):
            yield from wrong_name(what, said)
    yield from _wrong_names("pipelines", wanted.pipelines)
    yield from _wrong_names("models", wanted.models)
    yield from _wrong_limits(attrs.asdict(wanted.allowance))
    yield from _wrong_time("lasts_s", wanted.lasts_s, 1.0)


def _wrong_in(wanted: KeyChanges) -> Iterator[str]:
    if wanted.name:
        yield from wrong_name("name", wanted.name)
    yield from _wrong_names("pipelines", wanted.pipelines or ())
    yield from _wrong_names("models", wanted.models or ())
    yield from _wrong_limits(wanted.limits)
    if wanted.lasts_s != inf:
        yield from _wrong_time("lasts_s", wanted.lasts_s, 1.0)


def _wrong_rights(key: NewKey | KeyRecord) -> Iterator[str]:
    if not key.pipelines and not key.models and not key.metrics:
        yield "a key needs rights: give pipelines, models, or both ('*' is all)"
    if key.end_users and not key.organisation:
        yield "end_users: they are users of the key's organisation: make a key with organisation"


def _wrong_names(what: str, names: tuple[str, ...]) -> Iterator[str]:
    if len(names) > NAMES_MAX:
        yield f"{what}: {len(names)} names are too many; name up to {NAMES_MAX}, or '*'"
    for name in names[:NAMES_MAX]:
        yield from wrong_name(what, name)


def _wrong_limits(limits: Mapping[str, int | None]) -> Iterator[str]:
    for what, limit in limits.items():
        if what not in _MOST:
            yield f"there is no limit {what!r:.40} of a key; it is one of {', '.join(_MOST)}"
            continue
        least, most = _MOST[what]
        if limit is not None and not least <= limit <= most:
            yield f"{what}: {limit} is out of bounds; it may be {least} to {most}"


def wrong_name(what: str, name: str) -> Iterator[str]:
    """Why a name is refused. Names are compared letter by letter, and shown in tables and logs."""
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
