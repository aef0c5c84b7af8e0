"""The usage of a call, however it ended, and whether the call was sent. Pure.

Usage is exact if the provider has counted the whole answer. For a cut answer, it is the provider's
count so far, but at least the output received. If the provider has counted nothing, it is an
estimate.
"""

from __future__ import annotations

import attrs

from orchestra.accounts import UNSENT, Certainty, Usage
from orchestra.errors import (
    BreakerOpenError,
    BudgetExceededError,
    LimitReachedError,
    MalformedStreamError,
    ModelConnectionError,
    ModelError,
    ModelsFailedError,
    ModelTimeoutError,
    TruncatedStreamError,
    UnknownPriceError,
)
from orchestra.policies.requests.tokens import Estimate

NOT_SENT = ("connect", "connect_s", "waiting_max", "redirect")
"""Codes of errors that occur before a request is sent, or for an answer from the wrong server."""
_NOT_REACHED = (ModelConnectionError, ModelTimeoutError)
"""Errors whose code is set by orchestra, not by the provider."""
_REFUSED = (BreakerOpenError, BudgetExceededError, LimitReachedError, UnknownPriceError)
_UNCLEAR = (
    MalformedStreamError,
    ModelConnectionError,
    ModelTimeoutError,
    TruncatedStreamError,
)
"""Errors after which the provider may still have answered, and charged for it."""


def consumption(
    estimate: Estimate,
    usage: Usage | None,
    *,
    output_bytes: int,
    whole: bool,
    error: BaseException | None = None,
) -> Usage | None:
    """The usage of a call; None if the provider refused it or was not reached.

    `output_bytes` is the size of the output received, `usage` the provider's count so far, `whole`
    says whether the answer is complete, and `error` is the error that ended the call.
    """
    if whole and usage is not None and usage.certainty is Certainty.EXACT:
        return usage
    output_tokens = estimate.received(output_bytes)
    if usage is not None:
        return attrs.evolve(
            as_partial(usage),
            input_tokens=usage.input_tokens or estimate.input,
            output_tokens=max(usage.output_tokens, output_tokens),
        )
    if not output_tokens and _is_nothing(error):
        return None
    return Usage(estimate.input, output_tokens, Certainty.ESTIMATED)


def as_partial(usage: Usage) -> Usage:
    """The usage of a part of an answer, or of some of several calls: an exact one gets partial."""
    if usage.certainty is not Certainty.EXACT:
        return usage
    return attrs.evolve(usage, certainty=Certainty.PARTIAL)


def was_unsent(error: BaseException) -> bool:
    """Whether a call that ended with this error was not sent; limits then refund it completely."""
    if not isinstance(error, ModelError):
        return UNSENT in getattr(error, "__notes__", ())
    if error.begun:
        return False
    if isinstance(error, ModelsFailedError):
        return bool(error.errors) and all(map(was_unsent, error.errors.values()))
    if isinstance(error, _NOT_REACHED):
        return error.code in NOT_SENT
    return isinstance(error, _REFUSED)


def note_unsent(error: BaseException) -> None:
    """Mark an error of another kind (a cancellation, a state's error) as of a call not sent."""
    if not isinstance(error, ModelError) and not was_unsent(error):
        error.add_note(UNSENT)


def note_begun(error: BaseException) -> None:
    """Mark an error as that of a call of which something was sent before."""
    if isinstance(error, ModelError):
        error.begun = True
    elif was_unsent(error):
        error.__notes__.remove(UNSENT)


def _is_nothing(error: BaseException | None) -> bool:
    """Whether a call that got no output and ended with this error used no tokens."""
    if isinstance(error, Exception) and not isinstance(error, _UNCLEAR):
        return True
    return error is not None and was_unsent(error)
