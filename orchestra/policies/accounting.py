"""What a call has consumed, however it ended. Pure.

Exact where the provider has counted the whole of it; of a cut answer what it had counted, and no
less than what was said; and an estimate where it has counted nothing.
"""

from __future__ import annotations

import attrs

from orchestra.accounts import Certainty, Usage
from orchestra.errors import (
    MalformedStreamError,
    ModelConnectionError,
    ModelTimeoutError,
    TruncatedStreamError,
)
from orchestra.policies.tokens import Estimate, tokens_of

NOT_SENT = ("connect", "connect_s", "waiting_max", "redirect")
"""Codes of errors that come before a request has gone out, or in place of whom it is for."""
_UNCLEAR = (
    MalformedStreamError,
    ModelConnectionError,
    ModelTimeoutError,
    TruncatedStreamError,
)
"""Errors after which the provider may have answered all the same, and counted it."""


def consumption(
    estimate: Estimate,
    usage: Usage | None,
    *,
    said_bytes: int,
    whole: bool,
    error: BaseException | None = None,
) -> Usage | None:
    """What a call has consumed; None if its provider has refused it, or was not reached.

    `said_bytes` is what came of the answer, `usage` what the provider had counted of it, and
    `error` what the call has ended with.
    """
    if whole and usage is not None and usage.certainty is Certainty.EXACT:
        return usage
    said = tokens_of(said_bytes)
    if usage is not None:
        certainty = Certainty.PARTIAL if usage.certainty is Certainty.EXACT else usage.certainty
        return attrs.evolve(
            usage,
            input_tokens=usage.input_tokens or estimate.input,
            output_tokens=max(usage.output_tokens, said),
            certainty=certainty,
        )
    if not said and _is_nothing(error):
        return None
    return Usage(estimate.input, said, Certainty.ESTIMATED)


def _is_nothing(error: BaseException | None) -> bool:
    """Whether a call that ended so, and said nothing, was for nothing, too."""
    if not isinstance(error, Exception):
        return False
    return not isinstance(error, _UNCLEAR) or error.code in NOT_SENT
