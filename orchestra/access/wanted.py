"""The properties of a new key, or the changes to an existing one, and their validation. Pure.

Deny by default: a key has only the rights that are named. A key without any right is refused, since
its rights were probably forgotten; and so is a key without an owner.
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
"""How many pipelines, and how many models, one key may name; use `*` for more."""
AT_ONCE_MAX = 1000
"""The most for `concurrency`, since each call in progress has a stored lease. The same bound as in
the configuration."""
PER_MINUTE_MAX = RUNS_MAX = 2**53
MONEY_MAX = 10**15
"""A million dollars, in nanodollars. The same bound as in the configuration."""

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
    """The properties of a new key: its owner, its rights, its limits, and its lifetime.

    `pipelines` and `models` are names, or `*` for all; routes are listed under `models`. `metrics`
    is whether the key may read the server's metrics. `end_users` is whether its requests may name
    the end user of the organisation that they are made for. `lasts_s` counts from the creation;
    None means that the key does not expire.
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
    """Changes to a key; a property that is None, or a limit that is not named, does not change.

    `limits` are limits of its allowance by name; None removes a limit. `lasts_s` counts from now;
    infinity means that the key does not expire.
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
        StoreError: something is invalid; its message has a line for each problem.
    """
    _refuse(_wrong(wanted))


def check_changes(wanted: KeyChanges) -> None:
    """Check the values of changes; use `check_rights` to check the changed key.

    Raises:
        StoreError: something is invalid; its message has a line for each problem.
    """
    _refuse(_wrong_in(wanted))


def check_lasting(what: str, seconds: float | None, *, least_s: float = 0.0) -> None:
    """Check how long a key or a secret is to be valid; `what` names the parameter.

    Raises:
        StoreError: the time is less than `least_s`, or more than 100 years.
    """
    _refuse(_wrong_time(what, seconds, least_s))


def check_rights(key: NewKey | KeyRecord) -> None:
    """Check that a key has at least one right, and an organisation if it may name end users.

    Raises:
        StoreError: a check failed; the message has a line for each problem.
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
        if name := getattr(wanted, what):
            yield from wrong_name(what, name)
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
        yield "a key needs rights: give pipelines, models, or both ('*' for all), or metrics"
    if key.end_users and not key.organisation:
        yield "end_users: end users belong to the key's organisation, and it has none: give one"


def _wrong_names(what: str, names: tuple[str, ...]) -> Iterator[str]:
    if len(names) > NAMES_MAX:
        yield f"{what}: {len(names)} names are too many; give up to {NAMES_MAX}, or '*' for all"
    for name in names[:NAMES_MAX]:
        yield from wrong_name(what, name)


def _wrong_limits(limits: Mapping[str, int | None]) -> Iterator[str]:
    for what, limit in limits.items():
        if what not in _MOST:
            yield f"a key has no limit {what!r:.40}; its limits are {', '.join(_MOST)}"
            continue
        least, most = _MOST[what]
        if limit is not None and not least <= limit <= most:
            yield f"{what}: {limit} is out of bounds; give {least} to {most}"


def wrong_name(what: str, name: str) -> Iterator[str]:
    """Why a name is refused: names are compared exactly, and shown in tables and logs."""
    if not 0 < len(name) <= NAME_CHARS:
        yield f"{what}: a name has 1 to {NAME_CHARS} characters, not {len(name)}"
    elif not name.isprintable() or name != name.strip():
        yield f"{what}: {name!a} begins or ends with a space, or contains a control character"
    elif not unicodedata.is_normalized("NFC", name):
        yield f"{what}: {name!a} is not in Unicode's normal form NFC; write it in NFC"
    elif what in ("organisation", "user") and "/" in name:
        yield f"{what}: {name!r} contains a /, which separates organisation and user; leave it out"


def _wrong_time(what: str, seconds: float | None, least_s: float) -> Iterator[str]:
    if seconds is not None and not least_s <= seconds <= LASTS_MAX_S:
        yield f"{what}: {seconds:g} s is out of bounds; give {least_s:g} s to 100 years"


LASTS_MAX_S = 100 * 365 * 86_400.0
