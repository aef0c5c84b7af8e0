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

INTERNAL = 500
HIDDEN = "the pipeline failed; the server's log says why"
NO_RETRY = ("x-should-retry", "false")
"""The SDKs of OpenAI and Anthropic repeat a request after a 429 or a 5xx, unless this header is
set.
"""


@attrs.frozen
class ServedError:
    """An error for a client, which a dialect writes as an HTTP response or at the end of a stream.

    `param` is the field of the request that is wrong. A `quoted` message is a provider's own.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    quoted: bool = False

    def beside(self, *headers: tuple[str, str]) -> ServedError:
        """The same, with more headers."""
        return attrs.evolve(self, headers=(*self.headers, *headers))

    def worded(self, fields: Mapping[str, str]) -> ServedError:
        """The same in the words of another dialect: `fields` is what it calls those of a chat.

        A field stands in front of the message, with a colon, or anywhere with a `=`. What a
        provider has said stays as it is.
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
    _Kind(errors.DeadlineError, 504, "deadline_exceeded"),
    _Kind(errors.RunCancelledError, 503, "run_cancelled"),
    _Kind(errors.StateError, 503, "state_unreachable"),
    _Kind(errors.BindingError, 500, "not_configured", retry=False),
    _Kind(errors.OrchestraError, INTERNAL, "run_failed", retry=False),
)
"""The first match counts. Without a code here, the error's own is used, if it has one."""
_PATH = re.compile(r"[a-z_]+(?:\[\d+\]|\.[a-z_]+)*")
_OWN_FIELD = re.compile(r"extras\['orchestra'\](?:\['(\w+)'\])?")
"""The name of our policies' options in a pipeline; clients send them in the field `orchestra`."""
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
"""What a field of our requests is called in those of a chat."""


def not_stopped() -> errors.TruncatedStreamError:
    """The error that is raised at the end of an answer without a stop reason."""
    return errors.TruncatedStreamError(
        "the answer has no stop reason, and must not look complete: call `failed` with the error"
    )


def error_reply(error: BaseException) -> ServedError:
    """The form of an error for clients; of several errors in one, the `decisive` one.

    `param` is the field that it names, or that its message begins with; where a model cannot do
    something, the first that its message names. Fields have the names that they have in a chat:
    `worded` gives them those of another dialect. The message of what is no error of ours is hidden,
    since it may hold a path, a query or a key, and of what is `WITHHELD` clients read other words.
    """
    found = decisive(error)
    error = found.error
    kind = next((each for each in _KINDS if isinstance(error, each.error)), None)
    if kind is None:
        return ServedError(INTERNAL, HIDDEN, "run_failed", headers=(NO_RETRY,))
    said = error if isinstance(error, ModelError) else None
    told = said.message if said is not None else str(error)
    code = kind.code or (said.code if said is not None else "") or None
    own = _OWN_FIELD.match(told) if kind.error is InvalidRequestError else None
    if own is not None:
        told, code = _of_own_field(own), "invalid_value"
    reply = ServedError(
        kind.status,
        for_clients(type(error), told),
        code,
        "orchestra" if own is not None else _param(error),
        _headers(found.retry_after_s, kind),
        quoted=said is not None and _is_quoted(said),
    )
    return reply.worded(_FIELDS) if isinstance(error, errors.CapabilityError) else reply


def _is_quoted(error: ModelError) -> bool:
    """Whether the message is a provider's: it has answered, with a status or a code of its own."""
    return bool(error.provider) and (error.status is not None or bool(error.code))


def _of_own_field(found: re.Match[str]) -> str:
    """The message about the field `orchestra`, with the clients' name of it."""
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
    if colon and _PATH.fullmatch(field):
        return field
    named = (_FIELDS.get(each[1]) for each in _FIELD.finditer(error.message))
    return next(filter(None, named), None) if isinstance(error, errors.CapabilityError) else None
