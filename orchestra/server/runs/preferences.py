"""A client's preferences for a run: an idempotency key, and those of RFC 7240. Pure."""

from __future__ import annotations

import re

import msgspec

from orchestra.server.responses.problems import HttpProblem

BACKGROUND = "respond-async"
"""RFC 7240's preference for a response before the run has ended."""
MINIMAL = "return=minimal"
"""RFC 7240's preference for events whose last one does not repeat the chunks as the result."""
APPLIED = "Preference-Applied"
"""The header of responses that obey a preference."""
KEY_LENGTH_MAX = 255

_KEY = re.compile(r'"?([\x21\x23-\x7e]+)"?')


class Preferences(msgspec.Struct, frozen=True, kw_only=True):
    """`key` is the idempotency key; `background` is whether the client does not wait for the run.

    `last_event_id` is the id of the last event of the key's run that the client has received.
    """

    key: str | None = None
    background: bool = False
    last_event_id: str | None = None


NO_PREFERENCES = Preferences()


def preferences_of(
    key: str | None, prefer: str, last_event_id: str | None = None
) -> Preferences | HttpProblem:
    """The preferences in these headers, or the problem of an invalid key.

    `last_event_id` counts only with a key.
    """
    background = BACKGROUND in preferences_in(prefer)
    if key is None:
        return Preferences(background=background)
    found = _KEY.fullmatch(key.strip())
    if found is None or len(found[1]) > KEY_LENGTH_MAX:
        return bad_key()
    return Preferences(key=found[1], background=background, last_event_id=last_event_id or None)


def bad_key() -> HttpProblem:
    """The problem that the idempotency key is not valid."""
    detail = (
        f"`Idempotency-Key` must be one key of 1 to {KEY_LENGTH_MAX} visible ASCII characters "
        "without quotation marks; send a UUID, for example"
    )
    return HttpProblem(400, "bad-idempotency-key", "The key cannot be used.", detail)


def prefers_minimal(prefer: str) -> bool:
    """Whether a `Prefer` header asks for `MINIMAL`."""
    name, _, value = MINIMAL.partition("=")
    return preferences_in(prefer).get(name) == value


def preferences_in(prefer: str) -> dict[str, str]:
    """The preferences in a `Prefer` header: their values by name, "" for one without a value.

    Of several with one name the first counts, and parameters do not count (RFC 7240, section 2).
    """
    found: dict[str, str] = {}
    for part in prefer.split(","):
        name, _, value = part.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found
