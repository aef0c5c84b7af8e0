"""API keys as text for people, and as JSON for scripts. Pure; no part of a secret is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs

from orchestra.access.keys import KeyRecord
from orchestra.accounts import Caller
from orchestra.cli.callers.durations import time_text
from orchestra.cli.terminal import table
from orchestra.policies.money.prices import in_dollars

HEADINGS = (
    "ID",
    "NAME",
    "OWNER",
    "PIPELINES",
    "MODELS",
    "METRICS",
    "END USERS",
    "LIMITS",
    "CREATED (UTC)",
    "LAST USED (UTC)",
    "STATE",
)
NONE_USED: Mapping[str, float] = MappingProxyType({})
_SHORT = {
    "requests_per_minute": "{} requests/min",
    "tokens_per_minute": "{} tokens/min",
    "concurrency": "{} at once",
    "runs": "{} runs at once",
    "day_nanodollars": "{}/day",
    "month_nanodollars": "{}/month",
}


def as_object(
    record: KeyRecord, now_s: float, used_s: Mapping[str, float] | None = None
) -> dict[str, object]:
    """The whole key without its secrets, for JSON. Times are in seconds since 1970.

    `used_s` has the last uses by the keys' ids; without it, nothing is said of them.
    """
    used = {} if used_s is None else {"last_used_s": used_s.get(record.id)}
    return {
        "id": record.id,
        "name": record.name,
        "organisation": record.organisation,
        "user": record.user,
        "pipelines": record.pipelines,
        "models": record.models,
        "metrics": record.metrics,
        "end_users": record.end_users,
        **attrs.asdict(record.allowance),
        "state": record.state(now_s),
        "created_s": record.created_s,
        "expires_s": record.expires_s,
        "rotated_s": record.rotated_s,
        "revoked_s": record.revoked_s,
        **used,
    }


def as_table(
    records: Iterable[KeyRecord],
    now_s: float,
    width: int | None = None,
    used_s: Mapping[str, float] = NONE_USED,
) -> str:
    """A line for each key, with headings; as `table`. `used_s` has last uses by the keys' ids."""
    kept = [*records]
    rows = [HEADINGS, *(_row(record, now_s, used_s.get(record.id)) for record in kept)]
    rare = {
        HEADINGS.index("LAST USED (UTC)"): bool(used_s),
        HEADINGS.index("METRICS"): any(record.metrics for record in kept),
        HEADINGS.index("END USERS"): any(record.end_users for record in kept),
    }
    shown = [at for at in range(len(HEADINGS)) if rare.get(at, True)]
    return table([tuple(row[at] for at in shown) for row in rows], width)


def owner(of: KeyRecord | Caller) -> str:
    """The owner of a key or of a budget: `acme/ada`, `acme`, `ada`."""
    return "/".join(filter(None, (of.organisation, of.user)))


def ends(record: KeyRecord) -> str:
    """The text about a key's expiry."""
    until_s = record.expires_s
    return "it does not expire" if until_s is None else f"until {time_text(until_s)} UTC"


def _row(record: KeyRecord, now_s: float, used_s: float | None) -> tuple[str, ...]:
    state = record.state(now_s)
    until = {"revoked": record.revoked_s, "expired": record.expires_s}.get(state, record.expires_s)
    preposition = "until" if state == "active" else "on"
    return (
        record.id,
        record.name or "-",
        owner(record),
        ",".join(record.pipelines) or "-",
        ",".join(record.models) or "-",
        "yes" if record.metrics else "-",
        "yes" if record.end_users else "-",
        _limits(record) or "-",
        time_text(record.created_s),
        "-" if used_s is None else time_text(used_s),
        state if until is None else f"{state} {preposition} {time_text(until)}",
    )


def _limits(record: KeyRecord) -> str:
    limits = []
    for name, text in _SHORT.items():
        limit: int | None = getattr(record.allowance, name)
        if limit is not None:
            money = name.endswith("nanodollars")
            limits.append(text.format(in_dollars(limit) if money else limit))
    return ", ".join(limits)
