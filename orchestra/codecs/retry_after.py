"""The wait that a provider asks for, in all forms in which providers send it.

Pure: the time is an argument. A wait is 0 to an hour; a longer one is cut to an hour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

WAIT_MAX_S = 3600.0
"""The longest wait: after an hour a caller gives up, or calls another provider."""
ABOUT_S = 5.0
"""Smaller differences between clocks are ignored."""

_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,20})?"
"""Servers write floats with all of their digits: `0.30000000000000004`."""
_SECONDS = re.compile(rf"({_NUMBER})\s*s?")
_LENGTH = re.compile(
    rf"({_NUMBER})\s*(ms|milliseconds?|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)(?![a-z])",
    re.IGNORECASE,
)
_ASKS = re.compile(
    rf"(?:again|retry|wait)\b[^\d.]{{0,40}}(?=({_NUMBER}\s*[a-z].{{0,40}}))", re.IGNORECASE
)
_UNIT_S = {"ms": 0.001, "h": 3600.0, "m": 60.0, "s": 1.0}
_PLAIN = re.compile(_NUMBER)
_YEARS_S, _YEARS_MS = 1e9, 1e12
"""Larger numbers are times since 1970, in seconds or in milliseconds."""


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds to wait by the headers, 0 to an hour; None if they have no wait.

    Reads `retry-after-ms` and `x-ms-retry-after-ms` (milliseconds) before `retry-after`
    (seconds or an HTTP date, RFC 9110 10.2.3; or seconds since 1970), since they are more exact.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if found := _SECONDS.fullmatch(headers.get(name, "").strip()):
            return min(float(found[1]) / 1000, WAIT_MAX_S)
    value = headers.get("retry-after", "")
    if found := _SECONDS.fullmatch(value.strip()):
        return _from_now_s(float(found[1]), now_s)
    at = _date(value)
    return None if at is None else _until(at, now_s)


def their_now_s(headers: Mapping[str, str], now_s: float) -> float:
    """The current time by the clock of the server that wrote the headers.

    It is `now_s` if they have no date, or one within `ABOUT_S`: `date` is in whole seconds.
    """
    at = _date(headers.get("date", ""))
    there_s = now_s if at is None else at.timestamp()
    return there_s if abs(there_s - now_s) > ABOUT_S else now_s


def seconds(text: str) -> float | None:
    """A number of seconds, as in `34` or `34.5s`; None for any other text."""
    found = _SECONDS.fullmatch(text.strip())
    return min(float(found[1]), WAIT_MAX_S) if found else None


def reset_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds until a used-up limit is reset; None if no limit is used up.

    Each limit has two headers, such as `x-ratelimit-remaining-tokens` and
    `x-ratelimit-reset-tokens`, or with other words around: `anthropic-ratelimit-tokens-remaining`.
    The reset is a duration (`6m0s`, `12.5`) or a time (RFC 3339, or a number since 1970, as
    OpenRouter's). It counts only where 0 remain.
    """
    return max(_resets(headers, now_s), default=None)


def wait_in_text_s(message: str) -> float | None:
    """Seconds to wait by a message, as in `Please try again in 1m30.5s.`; None if it has none."""
    asks = _ASKS.search(message)
    return _length_s(asks[1]) if asks else None


def _resets(headers: Mapping[str, str], now_s: float) -> Iterator[float]:
    for name, remaining in headers.items():
        if remaining == "0" and "ratelimit" in name and "remaining" in name:
            reset = headers.get(name.replace("remaining", "reset"), "")
            if (wait_s := _reset_in_s(reset, now_s)) is not None:
                yield wait_s


def _reset_in_s(text: str, now_s: float) -> float | None:
    if not _PLAIN.fullmatch(text):
        try:
            return _until(datetime.fromisoformat(text), now_s)
        except ValueError:
            return _length_s(text)
    return _from_now_s(float(text), now_s)


def _from_now_s(number: float, now_s: float) -> float:
    """The wait for a number of seconds, or until a time since 1970."""
    if number >= _YEARS_MS:
        number /= 1000
    if number >= _YEARS_S:
        number -= now_s
    return min(max(number, 0.0), WAIT_MAX_S)


def _length_s(text: str) -> float | None:
    """The duration at the beginning of a text, in hours, minutes, seconds or parts of one."""
    total_s, at = None, 0
    while found := _LENGTH.match(text, at):
        unit = found[2].lower()
        scale = _UNIT_S.get(unit) or _UNIT_S["ms" if unit.startswith("milli") else unit[0]]
        total_s = (total_s or 0.0) + float(found[1]) * scale
        at = found.end() + (text[found.end() : found.end() + 1] == " ")
    return None if total_s is None else min(total_s, WAIT_MAX_S)


def _date(text: str) -> datetime | None:
    """An HTTP date; None for any other text."""
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)  # HTTP dates have no other zone


def _until(at: datetime, now_s: float) -> float:
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(aware.timestamp() - now_s, 0.0), WAIT_MAX_S)
