"""Errors for clients that use our server as if it were a provider, independent of the dialect.

Such clients choose their exception by the status, and read `code`. So the status is OpenAI's, and
the code says who has to act: `rate_limit_exceeded` is the caller's own limit,
`provider_rate_limited` the provider's; `insufficient_quota` is the caller's own budget,
`budget_held` the part held by the caller's other calls, `provider_quota` the deployment's;
`invalid_api_key` is the caller's key, `provider_key` ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from orchestra import errors
from orchestra.codecs.serving.decisive import decisive, whole_seconds
from orchestra.codecs.withheld import for_clients
from orchestra.errors import InvalidRequestError, ModelError
from orchestra.transcripts import ApprovalNeededError

INTERNAL = 500
HIDDEN = "the pipeline failed; the server's log says why"
NO_RETRY = ("x-should-retry", "false")
"""The header that keeps the SDKs of OpenAI and Anthropic from retrying after a 429 or a 5xx."""


@attrs.frozen
class ServedError:
    """An error for a client, which a dialect writes as an HTTP response or at the end of a stream.

    `param` is the field of the request that is wrong. With `quoted`, the message is a provider's.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    quoted: bool = False

    def beside(self, *headers: tuple[str, str]) -> ServedError:
        """The same error with additional headers."""
        return attrs.evolve(self, headers=(*self.headers, *headers))

    def worded(self, fields: Mapping[str, str]) -> ServedError:
        """The same error with another dialect's field names: `fields` maps a chat's names to them.

        Names are replaced in `param`, and in the message at its beginning before a colon, and
        anywhere before a `=`. A quoted message stays unchanged.
        """
        param = fields.get(self.param or "", self.param)
        if self.quoted:
            return attrs.evolve(self, param=param)
        names = "|".join(map(re.escape, fields))
        named = rf"^(?:{names})(?=: )|\b(?:{names})(?==)"
        message = re.sub(named, lambda found: fields[found[0]], self.message)
        return attrs.evolve(self, message=message, param=param)


@attrs.frozen
class _Kind:
    """How a class of errors is reported; `retry` tells whether repeating the request may help."""

    error: type[errors.OrchestraError]
    status: int
    code: str | None = None
    retry: bool = True


_KINDS = (
    _Kind(errors.InputError, 400, "invalid_value"),
    _Kind(errors.ContextLengthError, 400, "context_length_exceeded"),
    _Kind(errors.CapabilityError, 400, "unsupported_parameter"),
    _Kind(errors.InvalidRequestError, 400),
    _Kind(errors.ContentFilterError, 400, "content_filter"),
    _Kind(errors.BudgetHeldError, 429, "budget_held"),
    _Kind(errors.BudgetExceededError, 429, "insufficient_quota", retry=False),
    _Kind(errors.LimitUnknownError, 503, "state_unreachable"),
    _Kind(errors.LimitReachedError, 429, "rate_limit_exceeded"),
    _Kind(errors.RateLimitError, 429, "provider_rate_limited"),
    _Kind(errors.QuotaError, 429, "provider_quota", retry=False),
    _Kind(errors.AuthenticationError, 502, "provider_key", retry=False),
    _Kind(errors.PermissionDeniedError, 502, "provider_permission", retry=False),
    _Kind(errors.ModelNotFoundError, 502, "provider_model", retry=False),
    _Kind(errors.OverloadedError, 503, "overloaded"),
    _Kind(errors.BreakerOpenError, 503, "model_unavailable"),
    _Kind(errors.ModelTimeoutError, 504, "timeout"),
    _Kind(errors.ProviderServerError, 500, "server_error"),
    _Kind(errors.UnknownPriceError, 500, "unknown_price", retry=False),
    _Kind(errors.ModelError, 502, "upstream_error"),
    _Kind(ApprovalNeededError, 409, "approval_needed", retry=False),
    _Kind(errors.DeadlineError, 504, "deadline_exceeded"),
    _Kind(errors.RunCancelledError, 503, "run_cancelled"),
    _Kind(errors.StateError, 503, "state_unreachable"),
    _Kind(errors.BindingError, 500, "not_configured", retry=False),
    _Kind(errors.OrchestraError, INTERNAL, "run_failed", retry=False),
)
"""The first matching kind is used; if it has no code, the error's own code is used, if any."""
_PATH = re.compile(r"[a-z_]+(?:\[\d+\]|\.[a-z_]+)*")
_OWN_FIELD = re.compile(r"extras\['orchestra'\](?:\['(\w+)'\])?")
"""The place of our own policies' options in a pipeline; clients send them as `orchestra`."""
_FIELD = re.compile(r"\b([a-z_]+)=")
_FIELDS: Mapping[str, str] = {
    "output": "response_format",
    "output_tokens_max": "max_completion_tokens",
    **{
        name: name
        for name in (
            *("seed", "top_k", "presence_penalty", "frequency_penalty", "reasoning_effort"),
            *("tools", "tool_choice", "parallel_tool_calls", "logprobs", "stop", "dimensions"),
            "messages",
        )
    },
}
"""The names of our request's fields in a chat request."""


def not_stopped() -> errors.TruncatedStreamError:
    """The error that is raised at the end of an answer without a stop reason."""
    return errors.TruncatedStreamError(
        "the answer has no stop reason, and must not look complete: call `failed` with the error"
    )


def error_reply(error: BaseException) -> ServedError:
    """The form of an error for clients; if it contains several errors, that of the `decisive` one.

    `param` is the field that the error names, or that its message begins with; for a
    `CapabilityError`, the first field in its message. Fields have their names in a chat: `worded`
    replaces them by those of another dialect. The message of an exception that is not ours is
    hidden, since it may contain a path, a query or a key. The message of a `WITHHELD` error is
    replaced.
    """
    found = decisive(error)
    error = found.error
    kind = next((each for each in _KINDS if isinstance(error, each.error)), None)
    if kind is None:
        return ServedError(INTERNAL, HIDDEN, "run_failed", headers=(NO_RETRY,))
    model_error = error if isinstance(error, ModelError) else None
    message = model_error.message if model_error is not None else str(error)
    code = kind.code or (model_error.code if model_error is not None else "") or None
    own = _OWN_FIELD.match(message) if kind.error is InvalidRequestError else None
    if own is not None:
        message, code = _of_own_field(own), "invalid_value"
    reply = ServedError(
        kind.status,
        for_clients(type(error), message),
        code,
        "orchestra" if own is not None else _param(error),
        _headers(found.retry_after_s, kind),
        quoted=model_error is not None and _is_quoted(model_error),
    )
    return reply.worded(_FIELDS) if isinstance(error, errors.CapabilityError) else reply


def _is_quoted(error: ModelError) -> bool:
    """Whether the message is a provider's: the provider answered with a status or a code."""
    return bool(error.provider) and (error.status is not None or bool(error.code))


def _of_own_field(found: re.Match[str]) -> str:
    """The message about the field `orchestra`, with the name that clients use for it."""
    word = f".{found[1]}" if found[1] else ""
    return f"orchestra{word}{found.string[found.end() :]}"


def every_reply() -> tuple[ServedError, ...]:
    """The form of each kind of error, without a message."""
    return tuple(
        ServedError(each.status, "", each.code, headers=_headers(1.0, each)) for each in _KINDS
    )


def _headers(wait_s: float | None, kind: _Kind) -> tuple[tuple[str, str], ...]:
    waits = () if wait_s is None else (("retry-after", whole_seconds(wait_s)),)
    return waits if kind.retry else (*waits, NO_RETRY)


def _param(error: BaseException) -> str | None:
    if isinstance(error, errors.InputError):
        return error.field
    if not isinstance(error, InvalidRequestError):
        return None
    field, colon, _ = error.message.partition(": ")
    field = field.partition("[...]")[0]  # msgspec's sign for a key of an object
    if colon and _PATH.fullmatch(field):
        return field
    named = (_FIELDS.get(each[1]) for each in _FIELD.finditer(error.message))
    return next(filter(None, named), None) if isinstance(error, errors.CapabilityError) else None
