"""Problems with a caller's key, rate, budget, inputs or tags, which callers can solve. Pure.

Problems with the provider's key, quota or load are in `server/runs/problems`, with other types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestra.codecs.serving.decisive import decisive, whole_seconds
from orchestra.codecs.withheld import for_clients
from orchestra.errors import (
    BudgetExceededError,
    InputError,
    LimitExceededError,
    LimitReachedError,
    LimitUnknownError,
)
from orchestra.server.responses.problems import (
    RETRY_SOON,
    Fault,
    HttpProblem,
    bad_inputs,
    state_unreachable,
    too_busy,
)

if TYPE_CHECKING:
    from orchestra.access.keys import Reason

CHALLENGE = (("WWW-Authenticate", 'Bearer realm="orchestra"'),)
"""The header of every 401 (RFC 9110 section 11.6.1)."""
REASONS: Mapping[Reason, str] = {
    "unknown": "is not known to this server",
    "expired": "has expired, or was replaced by another; ask for a new one",
    "revoked": "was revoked; ask for a new one",
    "malformed": "does not have the form of this server's keys, or has a typing error; send the "
    "whole key, in one header, as in `Authorization: Bearer ork_...`",
}
"""The texts for the reasons why a key is refused, as its holder reads them."""


TAGS = "X-Orchestra-Tags"
"""The header with the tags of a run; the `field` of errors about tags, which no input can have."""


def key_missing() -> HttpProblem:
    """The request has no key, but needs one."""
    detail = "send `Authorization: Bearer KEY`; `orchestra keys create` makes a key"
    return HttpProblem(401, "key-missing", "A key is needed.", detail, headers=CHALLENGE)


def key_refused(reason: Reason) -> HttpProblem:
    """The request's key is refused; `reason` is the part of the reason that its holder may know."""
    detail = f"your key {REASONS[reason]}"
    return HttpProblem(401, f"key-{reason}", "Your key is not valid.", detail, headers=CHALLENGE)


def keys_unreachable() -> HttpProblem:
    """Keys cannot be looked up at the moment, so the request is refused."""
    detail = "keys cannot be looked up at the moment; try again"
    return HttpProblem(
        503, "keys-unreachable", "Keys cannot be checked.", detail, headers=RETRY_SOON
    )


def not_allowed(kind: str, name: str) -> HttpProblem:
    """The key is valid, but its scopes do not include this pipeline or model."""
    detail = f"your key may not use {kind} {name[:100]!r}; ask for a key whose scopes include it"
    return HttpProblem(403, "not-allowed", "Your key may not do this.", detail)


def no_metrics() -> HttpProblem:
    """The key is valid, but was not made for metrics."""
    detail = "your key may not read metrics; `orchestra keys create --metrics` makes a key that may"
    return HttpProblem(403, "not-allowed", "Your key may not do this.", detail)


def your_rate(error: LimitReachedError) -> HttpProblem:
    """The caller has reached a limit, or the limits cannot be read."""
    if isinstance(error, LimitUnknownError):
        return state_unreachable(for_clients(type(error), error.message))
    wait_s = decisive(error).retry_after_s
    headers = () if wait_s is None else (("Retry-After", whole_seconds(wait_s)),)
    extras = (("limit", error.code),)
    return HttpProblem(
        429, "rate-limited", "You have reached a limit.", error.message, (), extras, headers
    )


def your_budget(error: BudgetExceededError) -> HttpProblem:
    """The caller's budget is used up."""
    extras: tuple[tuple[str, object], ...] = (
        ("budget", error.budget),
        ("spent_nanodollars", error.spent_nanodollars),
        ("limit_nanodollars", error.limit_nanodollars),
        ("resets_at_s", error.resets_at_s),
    )
    return HttpProblem(
        402, "budget-exceeded", "Your budget has no room for it.", error.message, extras=extras
    )


def bad_tags(detail: str) -> HttpProblem:
    """The tags that a request gives its run are not valid."""
    return HttpProblem(400, "bad-tags", "The tags of the run are not valid.", detail)


NOT_STARTED = (InputError, LimitExceededError, LimitReachedError)
"""Errors that prevent the start of a run."""


def not_started(error: InputError | LimitExceededError | LimitReachedError) -> HttpProblem:
    """The problem of a run that was not started."""
    if isinstance(error, LimitReachedError):
        return your_rate(error)
    if isinstance(error, InputError):
        if error.field == TAGS:
            return bad_tags(str(error))
        field = error.field or "inputs"
        return bad_inputs([Fault(field, f"#/inputs/{field}", str(error))])
    return too_busy()
