"""A client's preferences for a run: not to wait for it, or not to start it twice. Pure."""

from __future__ import annotations

import re

import msgspec

from orchestra.server.responses.problems import HttpProblem

BACKGROUND = "respond-async"
"""The preference of RFC 7240 for an answer before the run has ended."""
KEY_LENGTH_MAX = 255

_KEY = re.compile(r'"?([\x21\x23-\x7e]+)"?')


class Preferences(msgspec.Struct, frozen=True, kw_only=True):
    """`key` is the idempotency key; `background` is whether nobody waits for the run.

    `last_event_id` is the id of the last event that the client has of the key's run.
    """

    key: str | None = None
    background: bool = False
    last_event_id: str | None = None


NO_PREFERENCES = Preferences()


def preferences_of(
    key: str | None, prefer: str, last_event_id: str | None = None
) -> Preferences | HttpProblem:
    """The preferences in the headers `Idempotency-Key`, `Prefer` and `Last-Event-ID`."""
    background = BACKGROUND in preference_names(prefer)
    if key is None:
        return Preferences(background=background)
    found = _KEY.fullmatch(key.strip())
    if found is None or len(found[1]) > KEY_LENGTH_MAX:
        return bad_key()
    return Preferences(key=found[1], background=background, last_event_id=last_event_id or None)


def bad_key() -> HttpProblem:
    """No run can be known by what came as an idempotency key."""
    detail = (
        f"`Idempotency-Key` is 1 to {KEY_LENGTH_MAX} visible characters of ASCII; "
        "send a UUID, for instance"
    )
    return HttpProblem(400, "bad-idempotency-key", "The key cannot be used.", detail)


def preference_names(prefer: str) -> set[str]:
    """The names of the preferences in a header `Prefer`."""
    return {part.partition(";")[0].partition("=")[0].strip().lower() for part in prefer.split(",")}
