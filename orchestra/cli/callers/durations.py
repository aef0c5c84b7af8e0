"""Durations on a command line (`90d`, `1h`, `30s`), and times in its lists. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from orchestra.cli.failures import MISUSED, CommandError
from orchestra.messages import counted

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")


def parse_duration_s(option: str, text: str) -> float:
    """The seconds of a duration.

    Raises:
        CommandError: the text is not a duration.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise CommandError(
            f"{option} {text!r:.40} is not a time; write a whole number and one of "
            f"{', '.join(UNITS_S)}, such as 90d or 1h",
            code=MISUSED,
        )
    return float(int(found[1]) * UNITS_S[found[2]])


def duration_text(duration_s: float) -> str:
    """A duration in its largest unit, for people: `3 days`."""
    names = {"d": "day", "h": "hour", "m": "minute", "s": "second"}
    for unit, name in names.items():
        count = int(duration_s // UNITS_S[unit])
        if count:
            return counted(count, name)
    return "no time"


def time_text(at_s: float) -> str:
    """A time in seconds since 1970, to the minute, in UTC: `2026-12-01 13:51`."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M}"
