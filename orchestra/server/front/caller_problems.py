"""What is wrong with a caller's key, rate or budget: what they can mend themselves. Pure.

What is wrong with the provider's key, quota or load is told by `runs/problems`; no two of them have
the same type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestra.codecs.serving.decisive import UNKNOWN_WAIT_S, whole_seconds
from orchestra.codecs.withheld import for_clients
from orchestra.errors import BudgetExceededError, LimitReachedError, LimitUnknownError
from orchestra.server.front.problems import HttpProblem

if TYPE_CHECKING:
    from orchestra.access.keys import Reason

CHALLENGE = (("WWW-Authenticate", 'Bearer realm="orchestra"'),)
"""With every 401 (RFC 9110 section 11.6.1)."""
REASONS: Mapping[Reason, str] = {
    "unknown": "is not known here",
    "expired": "has expired, or was replaced by another; ask for a new one",
    "revoked": "was revoked; ask for a new one",
    "malformed": "is not one of this server's; send `Authorization: Bearer ork_...`, all of it",
}
"""Why a key lets nobody in, as its holder is told."""


def key_missing() -> HttpProblem:
    """No key came, where one is needed."""
    detail = "send `Authorization: Bearer KEY`; `orchestra keys create` makes a key"
    return HttpProblem(401, "key-missing", "A key is needed.", detail, headers=CHALLENGE)


def key_refused(reason: Reason) -> HttpProblem:
    """A key came that lets nobody in; `reason` is why, as far as its holder may know."""
    detail = f"your key {REASONS[reason]}"
    return HttpProblem(401, f"key-{reason}", "Your key is not valid.", detail, headers=CHALLENGE)


def keys_unreachable() -> HttpProblem:
    """Whose key it is cannot be told at the moment, so nobody is let in."""
    detail = "keys cannot be looked up at the moment; try again"
    headers = (("Retry-After", "1"),)
    return HttpProblem(503, "keys-unreachable", "Keys cannot be checked.", detail, headers=headers)


def not_allowed(kind: str, name: str) -> HttpProblem:
    """The key is valid, and its scopes do not have this."""
    detail = f"your key may not use the {kind} {name[:100]!r}; ask for a key whose scopes have it"
    return HttpProblem(403, "not-allowed", "Your key may not do this.", detail)


def no_metrics() -> HttpProblem:
    """The key is valid, and was not made to read what the server counts."""
    detail = "your key may not read the metrics; `orchestra keys create --metrics` makes one for it"
    return HttpProblem(403, "not-allowed", "Your key may not do this.", detail)


def your_rate(error: LimitReachedError) -> HttpProblem:
    """The caller has sent as much as they may, for now; or nobody can tell."""
    if isinstance(error, LimitUnknownError):
        return _limits_unreachable(error)
    headers = (("Retry-After", whole_seconds(error.retry_after_s or UNKNOWN_WAIT_S)),)
    extras = (("limit", error.code),)
    return HttpProblem(
        429, "rate-limited", "You have reached your limit.", error.message, (), extras, headers
    )


def _limits_unreachable(error: LimitUnknownError) -> HttpProblem:
    detail = for_clients(type(error), error.message)
    headers = (("Retry-After", "1"),)
    return HttpProblem(
        503, "state-unreachable", "The state cannot be reached.", detail, headers=headers
    )


def your_budget(error: BudgetExceededError) -> HttpProblem:
    """The caller has spent what they may."""
    extras: tuple[tuple[str, object], ...] = (
        ("budget", error.budget),
        ("spent_nanodollars", error.spent_nanodollars),
        ("limit_nanodollars", error.limit_nanodollars),
        ("resets_at_s", error.resets_at_s),
    )
    return HttpProblem(
        402, "budget-exceeded", "Your budget has no room for it.", error.message, extras=extras
    )
