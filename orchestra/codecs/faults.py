"""Maps a provider's error (code, status, headers, message) to one of our errors.

Errors of every dialect go through here, also those inside a stream with status 200.
One rule decides, in three steps:

1. A specific error code of the provider decides: `context_length_exceeded`.
2. Otherwise the status gives a general kind or, without a status, a vague code does: the request
   is wrong (`invalid_request_error`), too early (`rate_limit_error`), or not allowed.
3. The message may make this more specific, but only to certain kinds (`_MORE_SPECIFIC`): a wrong
   request may be too long, and an early one may be over a paid quota. An early request never
   becomes one that is too long, whatever its message says about tokens.

Pure: the time is an argument.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Mapping

import attrs
import msgspec

from orchestra.codecs.fault_texts import KNOWN_KINDS, kind_in_message
from orchestra.codecs.raw_json import NOT_JSON, object_at
from orchestra.codecs.retry_after import (
    WAIT_MAX_S,
    reset_s,
    retry_after_s,
    seconds,
    their_now_s,
    wait_in_text_s,
)
from orchestra.codecs.withheld import BEGAN_WITH
from orchestra.errors import (
    AuthenticationError,
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    ModelError,
    ModelNotFoundError,
    ModelTimeoutError,
    OverloadedError,
    PermissionDeniedError,
    ProviderServerError,
    QuotaError,
    RateLimitError,
)
from orchestra.values import Json

MESSAGE_CHARS_MAX = 2_000
"""The most characters of a provider's message; the rest of an HTML page is useless."""

_BY_STATUS: Mapping[int, type[ModelError]] = {
    401: AuthenticationError,
    402: QuotaError,
    403: PermissionDeniedError,
    404: ModelNotFoundError,
    408: ModelTimeoutError,
    409: ProviderServerError,  # a conflict, which a retry may not have
    424: ProviderServerError,  # Bedrock: the model behind it failed
    429: RateLimitError,
    498: AuthenticationError,  # Cohere
    499: ProviderServerError,  # the provider believes that we have disconnected
    503: OverloadedError,
    504: ModelTimeoutError,
    529: OverloadedError,  # Anthropic
}
_CODES: Mapping[type[ModelError], str] = {
    AuthenticationError: "authentication_error authentication invalid_api_key unauthenticated "
    "invalid_authentication unauthorized api_key_invalid unrecognizedclient expiredtoken "
    "invalidsignature incompletesignature missingauthenticationtoken invalidclienttokenid "
    "requesttimetooskewed requestexpired",
    PermissionDeniedError: "permission_error permission_denied accessdenied forbidden "
    "failed_precondition permissiondenied model_terms_required key_model_access_denied",
    CapabilityError: "not_supported_error unsupported_operation unsupported_value "
    "unsupported_parameter operationnotsupported",
    ContextLengthError: "context_length_exceeded model_context_window_exceeded "
    "context_window_exceeded exceed_context_size_error tokens_limit_reached request_too_large",
    ContentFilterError: "content_filter content_policy_violation responsibleaipolicyviolation "
    "content_policy moderation_blocked data_inspection_failed datainspectionfailed hooks_failed",
    QuotaError: "insufficient_quota billing_error credit_balance_exhausted payment_required "
    "enforced_spend_limit_reached billing_hard_limit_reached billing_not_active "
    "insufficient_balance servicequotaexceeded spend_limit_exceeded quota_per_day arrearage "
    "accountoverdueerror setlimitexceeded budget_exceeded token_quota_reached",
    ModelNotFoundError: "not_found_error model_not_found deploymentnotfound not_found "
    "resourcenotfound invalid_model model_not_supported",
    RateLimitError: "rate_limit_exceeded rate_limit_error throttling resource_exhausted "
    "too_many_requests toomanyrequests rate_limited rate_limit rate_limit_reached_error "
    "ratelimitreached model_rate_limit too_many_requests_error request_quota_exceeded "
    "too_many_tokens_error token_quota_exceeded",
    OverloadedError: "overloaded_error overloaded engine_overloaded engine_overloaded_error "
    "modelnotready unavailable serviceunavailable service_unavailable capacity_exceeded "
    "over_capacity service_tier_capacity_exceeded model_capacity_exhausted",
    ModelTimeoutError: "timeout_error deadline_exceeded modeltimeout timeout request_timeout",
    ProviderServerError: "api_error internal_server_error internalserver server_error "
    "internal modelerror modelstreamerror internalfailure internal_error upstream_error aborted",
    InvalidRequestError: "invalid_request_error invalid_argument validation invalid_request "
    "invalid_prompt bad_request",
}
_BY_CODE = {code: kind for kind, codes in _CODES.items() for code in codes.split()}
_BASE_RESP: Mapping[str, str] = {
    "1001": "timeout",
    "1002": "rate_limited",
    "1004": "unauthorized",
    "1008": "insufficient_balance",
    "1026": "content_filter",
    "1027": "content_filter",
    "1039": "rate_limited",
    "2013": "invalid_request",
}
"""MiniMax's error numbers, as codes of other providers."""
_VAGUE = (InvalidRequestError, RateLimitError, ProviderServerError)
"""Codes that say less than the status: a `server_error` with a 503 is an overload."""
_INVALID_OUTPUT = frozenset(("tool_use_failed", "json_validate_failed"))
"""Groq's codes for invalid output of its model, which may be valid in another attempt.

Their status is that of a wrong request.
"""
_MORE_SPECIFIC: Mapping[type[ModelError], tuple[type[ModelError], ...]] = {
    InvalidRequestError: KNOWN_KINDS,
    PermissionDeniedError: (ContentFilterError, QuotaError, AuthenticationError),
    RateLimitError: (QuotaError,),
}
"""For each general kind, the more specific kinds that its message may mean."""
_ERROR, _TOO_LARGE, _SERVER_ERROR, _STATUS_MAX = 400, 413, 500, 599
_STATUS_DIGITS = re.compile(r"[45]\d\d", re.ASCII)
_REQUEST_IDS = (
    *("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid"),
    *("x-generation-id", "x-goog-request-id"),
    *("mistral-correlation-id", "x-ds-trace-id", "x-debug-trace-id"),  # Mistral, DeepSeek, Cohere
)


@attrs.frozen
class ReportedError:
    """An error as a provider reports it: the message, its own codes, and the time to wait."""

    message: str
    codes: tuple[str, ...] = ()
    status: int | None = None
    wait_s: float | None = None
    request_id: str = ""
    passed_on: str = ""
    """The upstream provider's message, from a gateway that has one message for everything."""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    """Headers of the reached limit, by lower-case name, if the body has them."""


def http_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    now_s: float,
    *,
    codes: tuple[str, ...] = (),
    kind: type[ModelError] | None = None,
) -> ModelError:
    """The error for an HTTP answer; `codes` are further codes for it.

    `kind` is its class, if that is known already. Times in headers are used correctly even if our
    own clock is wrong.
    """
    reported, now_s = read_error(body), their_now_s(headers, now_s)
    asked_s = retry_after_s(headers, now_s)
    reported = attrs.evolve(
        reported,
        message=_reason(status, body, reported),
        codes=(*codes, *reported.codes),
        status=status,
        wait_s=reported.wait_s if asked_s is None else asked_s,
        request_id=reported.request_id or next(filter(None, map(headers.get, _REQUEST_IDS)), ""),
    )
    error = as_error(reported, kind)
    if isinstance(error, RateLimitError) and error.retry_after_s is None:
        error.retry_after_s = reset_s({**reported.headers, **headers}, now_s)
    return error


def _reason(status: int, body: bytes, reported: ReportedError) -> str:
    """The provider's message; a proxy's HTML page becomes one line, which clients do not see."""
    message = reported.message or _body_text(body)
    if not message:
        return f"no reason given, with HTTP status {status}"
    if status >= _SERVER_ERROR and not body.lstrip().startswith((b"{", b"[")):
        return f"no reason given, with HTTP status {status}{BEGAN_WITH}{' '.join(message.split())}"
    return message


def _body_text(body: bytes) -> str:
    """A body without a recognized message, as text for a human reader."""
    text = body[: 4 * MESSAGE_CHARS_MAX].decode("utf-8", "replace").strip()
    return "" if text in {"{}", "[]", "null", '""'} else text


def as_error(reported: ReportedError, kind: type[ModelError] | None = None) -> ModelError:
    """Our error for a reported error, from an HTTP answer or from inside a stream.

    `kind` is its class, if that is known already.
    """
    message = reported.message
    if reported.passed_on:
        message += f": {reported.passed_on}"
    message = message[:MESSAGE_CHARS_MAX] or "no reason given"
    wait_s = wait_in_text_s(message) if reported.wait_s is None else reported.wait_s
    kind = kind or _kind(reported, message, wait_s)
    return kind(
        message,
        retry_after_s=wait_s if kind.retryable else None,
        status=reported.status,
        code=next((code for code in reported.codes if not code.isdigit()), ""),
        request_id=reported.request_id,
    )


def read_error(body: bytes | object) -> ReportedError:
    """Read an error body in any of the providers' formats.

    Takes bytes, or a decoded JSON value. A body that is not JSON is the message.
    """
    found: object = body
    if isinstance(body, bytes):
        try:
            found = msgspec.json.decode(body.removeprefix(BOM_UTF8))
        except NOT_JSON:
            return ReportedError(body[: 4 * MESSAGE_CHARS_MAX].decode("utf-8", "replace").strip())
    if isinstance(found, list):
        found = found[0] if found else {}
    if not isinstance(found, dict):
        return ReportedError("" if found is None else str(found))
    inner = _error_of(found)
    if not isinstance(inner, dict):
        loads_s = seconds(str(found.get("estimated_time", "")))  # Hugging Face's, of a model
        id_ = _text(found.get("request_id"))
        return ReportedError(str(inner), _codes(found), wait_s=loads_s, request_id=id_)
    return ReportedError(
        _message(inner) or _message(found),
        _codes(inner),
        _status(inner),
        _wait_s(inner.get("details")),
        _text(found.get("request_id") or inner.get("request_id")),
        _upstream_text(object_at(inner, "metadata")),
        _headers(object_at(inner, "metadata")),
    )


def _error_of(found: Mapping[str, object]) -> object:
    """The error inside a body: in `error`, or where MiniMax or Cloudflare put it; else the body."""
    if inner := found.get("error"):
        return (inner[0] or found) if isinstance(inner, list) else inner
    base, errors = found.get("base_resp"), found.get("errors")
    if isinstance(base, dict) and base.get("status_code"):
        return base
    first = errors[0] if isinstance(errors, list) and errors else None
    return first if isinstance(first, dict | str) and not _message(found) else found


def error_in(payload: bytes, kind: type[ModelError] | None = None) -> ModelError | None:
    """The error in a JSON body in place of an answer, in any format; None if it has none.

    An error has a message, or is marked as one by `error` or Amazon's `__type`. A `message` that is
    an object belongs to an answer. `kind` is the class of the error, if that is known already.
    """
    try:
        found = msgspec.json.decode(payload.removeprefix(BOM_UTF8))
    except NOT_JSON:
        return None
    first = found[0] if isinstance(found, list) and found else found
    if not isinstance(first, dict):
        return None
    if isinstance(first.get("message"), dict) and not first.get("error"):
        return None
    reported = read_error(first)
    marked = first.get("error") or first.get("__type")
    return as_error(reported, kind) if reported.message or marked else None


def _kind(reported: ReportedError, message: str, wait_s: float | None) -> type[ModelError]:
    codes = [*map(_plain, reported.codes)]
    if not _INVALID_OUTPUT.isdisjoint(codes):
        return ProviderServerError
    named = [_BY_CODE[code] for code in codes if code in _BY_CODE]
    for kind in named:
        if kind not in _VAGUE:
            return kind
    kind = _general_kind(reported.status, named[0] if named else None)
    if kind is RateLimitError and wait_s is not None and wait_s < WAIT_MAX_S:
        return kind  # some messages mention billing or a day although a short wait is enough
    unknown = reported.status is None and kind is ProviderServerError
    if kind is not InvalidRequestError:  # the used-up quota behind a gateway is not ours
        message = reported.message[:MESSAGE_CHARS_MAX]
    kinds = KNOWN_KINDS if unknown else _MORE_SPECIFIC.get(kind, ())
    kind = kind_in_message(message, kinds) or kind
    too_large = kind is InvalidRequestError and reported.status == _TOO_LARGE
    return ContextLengthError if too_large else kind  # another model may have room for it


def _general_kind(status: int | None, named: type[ModelError] | None) -> type[ModelError]:
    # Some providers report a request that is always too large as a rate limit. Amazon's throttling
    # may have status 400.
    limited = named is RateLimitError and status != _TOO_LARGE
    if status is not None and status >= _ERROR and not limited:
        usual = InvalidRequestError if status < _SERVER_ERROR else ProviderServerError
        return _BY_STATUS.get(status, usual)
    return named or ProviderServerError


def _plain(code: str) -> str:
    """`ThrottlingException:http://...` as `throttling`; other codes unchanged."""
    code = code.partition(":")[0].rpartition("#")[2].strip().lower()
    return code.removesuffix("exception").removesuffix("error_") or code


def _message(found: Mapping[str, object]) -> str:
    for key in ("message", "Message", "detail", "error_description", "msg", "title", "status_msg"):
        value = found.get(key)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, list | dict) and value:
            return msgspec.json.encode(value).decode()
    return ""


def _upstream_text(metadata: Json) -> str:
    """The upstream message in OpenRouter's metadata, read from an error in any format or a text."""
    raw = metadata.get("raw")
    if not isinstance(raw, str):
        return ""
    text = raw[: 4 * MESSAGE_CHARS_MAX]
    return read_error(text.encode("utf-8", "replace")).message or text


def _headers(metadata: Json) -> Mapping[str, str]:
    pairs = object_at(metadata, "headers").items()
    return {name.lower(): value for name, value in pairs if isinstance(value, str)}


def _codes(found: Mapping[str, object]) -> tuple[str, ...]:
    details = found.get("details")
    reasons = details if isinstance(details, list) else [details]
    named = [
        each.get("reason") or each.get("error_code") for each in reasons if isinstance(each, dict)
    ]
    codes = (
        object_at(found, "innererror").get("code"),
        *named,
        found.get("code"),
        found.get("status"),
        found.get("type"),
        found.get("__type"),
        _BASE_RESP.get(str(found.get("status_code"))) if "status_msg" in found else None,
        _per_day(reasons),
    )
    return tuple(code for code in codes if isinstance(code, str) and code)


def _per_day(details: list[object]) -> str:
    """The code "quota_per_day" if Gemini's `QuotaFailure` names a used-up daily quota; else ""."""
    for each in details:
        violations = each.get("violations") if isinstance(each, dict) else None
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId")):
                return "quota_per_day"
    return ""


def _status(found: Mapping[str, object]) -> int | None:
    for key in ("code", "status", "status_code"):
        value = found.get(key)
        if isinstance(value, str) and _STATUS_DIGITS.fullmatch(value):
            value = int(value)
        if isinstance(value, int) and _ERROR <= value <= _STATUS_MAX:
            return value
    return None


def _wait_s(details: object) -> float | None:
    """Seconds to wait by Gemini's `RetryInfo`, as in `{"retryDelay": "34s"}`; None without one."""
    for each in details if isinstance(details, list) else ():
        if isinstance(each, dict):
            wait_s = seconds(str(each.get("retryDelay", "")))
            if wait_s is not None:
                return wait_s
    return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
