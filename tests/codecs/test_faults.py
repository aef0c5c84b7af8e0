from __future__ import annotations

import json
from codecs import BOM_UTF8
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.faults import (
    MESSAGE_CHARS_MAX,
    ReportedError,
    as_error,
    error_in,
    http_error,
    read_error,
)
from orchestra.codecs.retry_after import ABOUT_S
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

Json = dict[str, object]
Kind = type[ModelError]


def told(status: int, body: object, **headers: str) -> ModelError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http_error(status, named, json.dumps(body).encode(), 0)


@given(st.sampled_from((b"", BOM_UTF8)))
def test_a_byte_order_mark_before_an_error_is_passed_over(mark: bytes) -> None:
    body = mark + b'{"error":{"code":"context_length_exceeded","message":"too long"}}'
    assert isinstance(http_error(400, {}, body, 0), ContextLengthError)
    assert isinstance(error_in(body), ContextLengthError)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=9)
    | st.sampled_from(("429", "x#y")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    "error",
                    "message",
                    "code",
                    "status",
                    "type",
                    "details",
                    "innererror",
                    "detail",
                    "retryDelay",
                    "reason",
                    "request_id",
                    "__type",
                    "violations",
                    "quotaId",
                    "errors",
                    "base_resp",
                    "status_code",
                    "status_msg",
                    "metadata",
                    "raw",
                    "headers",
                )
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
BODIES = (
    st.binary(max_size=60)
    | JSON.map(json.dumps).map(str.encode)
    | st.sampled_from((b"[" * 9999, b'{"error":' * 9999, b"null", b'"', b"\xff", b"[[]]"))
)
HEADERS = st.dictionaries(
    st.sampled_from(("retry-after", "retry-after-ms", "x-request-id", "date")), st.text(max_size=20)
)


@given(st.integers(400, 599), HEADERS, BODIES, st.floats(0, 4e9))
def test_any_answer_is_an_error_of_ours(
    status: int, headers: dict[str, str], body: bytes, now_s: float
) -> None:
    error = http_error(status, headers, body, now_s)
    assert error.status == status
    assert error.message
    assert len(error.message) <= MESSAGE_CHARS_MAX
    assert error.retryable or error.retry_after_s is None


@given(BODIES)
def test_any_error_inside_of_a_stream_is_one_of_ours(body: bytes) -> None:
    assert isinstance(as_error(read_error(body)), ModelError)


STATUSES: list[tuple[int, Kind]] = [
    (400, InvalidRequestError),
    (401, AuthenticationError),
    (402, QuotaError),
    (403, PermissionDeniedError),
    (404, ModelNotFoundError),
    (408, ModelTimeoutError),
    (409, ProviderServerError),
    (413, ContextLengthError),
    (422, InvalidRequestError),
    (424, ProviderServerError),
    (429, RateLimitError),
    (498, AuthenticationError),
    (499, ProviderServerError),
    (500, ProviderServerError),
    (502, ProviderServerError),
    (503, OverloadedError),
    (504, ModelTimeoutError),
    (529, OverloadedError),
    (599, ProviderServerError),
]


@pytest.mark.parametrize(("status", "kind"), STATUSES)
@pytest.mark.parametrize("body", [b"", b"<html>Bad</html>", b'{"message":"no"}', b"{}"])
def test_where_the_provider_says_nothing_the_status_decides(
    status: int, kind: Kind, body: bytes
) -> None:
    assert type(http_error(status, {}, body, 0)) is kind


def openai(code: str | None, message: str = "no", type_: str = "") -> Json:
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}


def anthropic(type_: str, message: str = "no", **more: object) -> Json:
    return {"type": "error", "error": {"type": type_, "message": message, **more}}


def google(status: str, message: str = "no", *details: Json) -> Json:
    return {"error": {"code": 400, "message": message, "status": status, "details": list(details)}}


TOLD: list[tuple[int, object, Kind]] = [
    # OpenAI
    (400, openai("context_length_exceeded", type_="invalid_request_error"), ContextLengthError),
    (400, openai("content_policy_violation"), ContentFilterError),
    (400, openai("unsupported_value"), CapabilityError),
    (400, openai("unsupported_parameter"), CapabilityError),
    (
        400,
        openai(
            "string_above_max_length", "Invalid 'user': string too long, with maximum length 64"
        ),
        InvalidRequestError,
    ),
    (
        400,
        openai("string_above_max_length", "string too long, with maximum length 10485760"),
        ContextLengthError,
    ),
    (400, openai(None, "you must provide a model", "invalid_request_error"), InvalidRequestError),
    (400, openai("invalid_prompt"), InvalidRequestError),
    (401, openai("invalid_api_key"), AuthenticationError),
    (404, openai("model_not_found"), ModelNotFoundError),
    (429, openai("rate_limit_exceeded"), RateLimitError),
    (429, openai("insufficient_quota", type_="insufficient_quota"), QuotaError),
    (429, openai("credit_balance_exhausted"), QuotaError),
    # Azure
    (
        400,
        {
            "error": {
                "code": "content_filter",
                "message": "no",
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        ContentFilterError,
    ),
    (404, {"error": {"code": "DeploymentNotFound", "message": "no"}}, ModelNotFoundError),
    (429, {"error": {"code": "429", "message": "Please retry after 26 seconds."}}, RateLimitError),
    # Anthropic
    (
        400,
        anthropic("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
        ContextLengthError,
    ),
    (400, anthropic("invalid_request_error", "Your credit balance is too low"), QuotaError),
    (400, anthropic("invalid_request_error", "max_tokens: Field required"), InvalidRequestError),
    (401, anthropic("authentication_error"), AuthenticationError),
    (402, anthropic("billing_error"), QuotaError),
    (403, anthropic("permission_error"), PermissionDeniedError),
    (404, anthropic("not_found_error"), ModelNotFoundError),
    (413, anthropic("request_too_large"), ContextLengthError),
    (429, anthropic("rate_limit_error"), RateLimitError),
    (
        429,
        anthropic("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}),
        QuotaError,
    ),
    (500, anthropic("api_error"), ProviderServerError),
    (504, anthropic("timeout_error"), ModelTimeoutError),
    (529, anthropic("overloaded_error"), OverloadedError),
    # Google
    (
        400,
        google("INVALID_ARGUMENT", "API key not valid", {"reason": "API_KEY_INVALID"}),
        AuthenticationError,
    ),
    (
        400,
        google("INVALID_ARGUMENT", "The input token count (9) exceeds the maximum"),
        ContextLengthError,
    ),
    (400, google("INVALID_ARGUMENT", "wrong"), InvalidRequestError),
    (400, google("FAILED_PRECONDITION"), PermissionDeniedError),
    (403, google("PERMISSION_DENIED"), PermissionDeniedError),
    (404, google("NOT_FOUND"), ModelNotFoundError),
    (429, google("RESOURCE_EXHAUSTED"), RateLimitError),
    (503, google("UNAVAILABLE"), OverloadedError),
    (504, google("DEADLINE_EXCEEDED"), ModelTimeoutError),
    (400, [google("INVALID_ARGUMENT", "wrong")], InvalidRequestError),
    # Bedrock
    (
        400,
        {"__type": "com.amazon.coral.service#ThrottlingException", "message": "no"},
        RateLimitError,
    ),
    (403, {"__type": "ExpiredTokenException:http://a", "message": "no"}, AuthenticationError),
    (400, {"message": "Input is too long for requested model."}, ContextLengthError),
    (400, {"message": "The provided model identifier is invalid."}, ModelNotFoundError),
    # An answer that the request has begun: Anthropic, Mistral
    (
        400,
        anthropic(
            "invalid_request_error",
            "This model does not support assistant message prefill. The conversation must end "
            "with a user message.",
        ),
        CapabilityError,
    ),
    (
        400,
        {
            "message": "Expected last role User or Tool (or Assistant with prefix True) for "
            "serving but got assistant",
            "type": "invalid_request_error",
        },
        CapabilityError,
    ),
    # Alibaba
    (400, openai("data_inspection_failed"), ContentFilterError),
    (400, {"code": "DataInspectionFailed", "message": "no"}, ContentFilterError),
    (400, openai("Arrearage"), QuotaError),
    # Cohere
    (429, {"message": "You are using a Trial key, limited to 1000 API calls / month"}, QuotaError),
    (498, {"message": "invalid token"}, AuthenticationError),
    # Ollama
    (404, {"error": "model 'x' not found"}, ModelNotFoundError),
    (400, {"error": "x does not support tools"}, CapabilityError),
    # OpenRouter and others
    (413, openai("rate_limit_exceeded", "Request too large: reduce it"), ContextLengthError),
    (402, {"error": {"code": 402, "message": "Insufficient credits"}}, QuotaError),
    (
        400,
        {"object": "error", "message": "This model's maximum context length is 9", "code": 400},
        ContextLengthError,
    ),
    (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, InvalidRequestError),
    (400, {"error": None, "message": "wrong"}, InvalidRequestError),
]


@pytest.mark.parametrize(("status", "body", "kind"), TOLD)
def test_what_the_provider_says_decides(status: int, body: object, kind: Kind) -> None:
    error = told(status, body)
    assert type(error) is kind
    assert "None" not in error.message


QUOTING: list[tuple[int, str, Kind]] = [
    (400, "Invalid schema for function 'get_daily_sales': no type", InvalidRequestError),
    (400, "'monthly_report' is not a function", InvalidRequestError),
    (400, "Unknown parameter: 'billing_code'.", InvalidRequestError),
    (400, 'Unknown parameter: "billing".', InvalidRequestError),
    (400, "No tool is called `content_filter_report`", InvalidRequestError),
    (400, "Invalid schema for response_format 'content_filter_report': no", InvalidRequestError),
    (400, "Invalid name 'prefill_x', the model's limit is 9", InvalidRequestError),
    (400, "Invalid value: 'my daily limit'. Write 'auto'.", InvalidRequestError),
    (403, "You have no access to model daily-7b", PermissionDeniedError),
    (400, "A monthly report cannot be asked for", InvalidRequestError),
    (429, "You have reached your daily limit", QuotaError),
    (429, "The quota of your account is used up; it is monthly", QuotaError),
    (429, "Billing hard limit has been reached", QuotaError),
    (429, "You have no quota left, please check your plan and billing details.", QuotaError),
    (400, "This API method requires billing to be enabled", QuotaError),
    (400, "'gpt-x' has a daily limit", QuotaError),
    (400, "The model's maximum context length is 9, however it's 10", ContextLengthError),
    (
        400,
        "Error 400 - {'error': {'message': 'The prompt is too long', 'code': None}}",
        ContextLengthError,
    ),
    (400, 'AnthropicException - {"message":"prompt is too long","type":"x"}', ContextLengthError),
]


@pytest.mark.parametrize(("status", "message", "kind"), QUOTING)
def test_what_is_quoted_of_the_caller_does_not_decide(
    status: int, message: str, kind: Kind
) -> None:
    assert type(told(status, openai(None, message, "invalid_request_error"))) is kind


IN_STREAM: list[tuple[Json, Kind]] = [
    (anthropic("overloaded_error"), OverloadedError),
    (anthropic("api_error"), ProviderServerError),
    (anthropic("rate_limit_error"), RateLimitError),
    (openai("rate_limit_exceeded"), RateLimitError),
    ({"error": {"code": 502, "message": "Provider disconnected"}}, ProviderServerError),
    ({"error": {"code": 429, "message": "slow down"}}, RateLimitError),
    ({"error": {"code": "401", "message": "who?"}}, AuthenticationError),
    ({"error": {"message": "prompt is too long"}}, ContextLengthError),
    ({"error": "something"}, ProviderServerError),
    (google("UNAVAILABLE"), OverloadedError),
    ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, QuotaError),
    ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, RateLimitError),
    (
        {"base_resp": {"status_code": 1027, "status_msg": "output new_sensitive"}},
        ContentFilterError,
    ),
    (
        {"base_resp": {"status_code": 2013, "status_msg": "context window exceeds limit"}},
        ContextLengthError,
    ),
    ({"base_resp": {"status_code": 1000, "status_msg": "unknown error"}}, ProviderServerError),
]


@pytest.mark.parametrize(("body", "kind"), IN_STREAM)
def test_an_error_inside_of_a_stream_is_told_by_its_body(body: Json, kind: Kind) -> None:
    assert type(as_error(read_error(body))) is kind


MESSAGES: list[tuple[object, str]] = [
    ({"error": {"message": "no"}}, "no"),
    ({"error": "no"}, "no"),
    ({"message": "no"}, "no"),
    ({"Message": "no"}, "no"),
    ({"detail": "no"}, "no"),
    ({"detail": [{"msg": "no"}]}, '[{"msg":"no"}]'),
    ({"error": {"code": "x"}, "message": "no"}, "no"),
    ({"error": {}, "message": "no"}, "no"),
    ([{"error": {"message": "no"}}], "no"),
    ({"errors": [{"message": "no"}, {"message": "and"}]}, "no"),
    ({"errors": ["no"]}, "no"),
    ({"error": [{"message": "no"}], "success": False}, "no"),
    ({"error": ["no"]}, "no"),
    ({"error": [None], "message": "no"}, "no"),
    ({"errors": [{"message": "why"}], "message": "no"}, "no"),
    ({"base_resp": {"status_code": 1000, "status_msg": "no"}}, "no"),
    ({"base_resp": {"status_code": 0, "status_msg": "fine"}, "msg": "no"}, "no"),
    ("no", "no"),
    ({}, ""),
    ([], ""),
    (None, ""),
]


@pytest.mark.parametrize(("body", "message"), MESSAGES)
def test_the_message_is_the_providers_own(body: object, message: str) -> None:
    assert read_error(json.dumps(body).encode()).message == message


@pytest.mark.parametrize("raw", ["busy", '"busy"', '{"error":{"message":"busy"}}', '["busy"]'])
def test_what_the_provider_behind_a_gateway_said_is_told_too(raw: str) -> None:
    """OpenRouter has one sentence for all of it."""
    body = {"error": {"code": 502, "message": "Provider returned error", "metadata": {"raw": raw}}}
    assert told(502, body).message == "Provider returned error: busy"


def test_what_is_no_json_is_the_message() -> None:
    assert read_error(b" upstream connect error\n").message == "upstream connect error"


@pytest.mark.parametrize(
    "body", [{"errors": [{"why": 7}]}, {"error": {"error": {"message": "busy"}}}, {"reason": "no"}]
)
def test_a_body_in_which_no_sentence_is_found_is_kept(body: object) -> None:
    assert told(503, body).message == json.dumps(body)


@pytest.mark.parametrize("body", [b"", b" \r\n", b"{}", b"[]", b"null", b'""'])
def test_a_body_that_says_nothing_is_told_by_its_status(body: bytes) -> None:
    assert http_error(502, {}, body, 0).message == "no reason given, with HTTP status 502"


def test_a_page_of_html_is_cut() -> None:
    assert len(http_error(502, {}, b"<html>" * 9999, 0).message) == MESSAGE_CHARS_MAX


def test_an_error_says_where_it_came_from() -> None:
    error = told(
        429, openai("rate_limit_exceeded", "slow down"), retry_after="7", x_request_id="r1"
    )
    assert (error.status, error.code, error.request_id) == (429, "rate_limit_exceeded", "r1")
    assert error.retry_after_s == 7
    assert "slow down" in str(error)


@pytest.mark.parametrize(
    "name",
    [
        *("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "x-generation-id"),
        *("mistral-correlation-id", "x-ds-trace-id", "x-debug-trace-id"),
    ],
)
def test_the_id_of_a_request_is_found_under_every_name(name: str) -> None:
    assert http_error(500, {name: "r1"}, b"", 0).request_id == "r1"


def test_the_id_in_a_body_is_the_better_one() -> None:
    body = {**anthropic("api_error"), "request_id": "r2"}
    assert told(500, body, request_id="r1").request_id == "r2"


@given(st.floats(-1e7, 1e7))
def test_a_time_to_wait_until_is_that_of_who_tells_it_whatever_our_clock_says(off_s: float) -> None:
    """A host an hour behind waited an hour longer, which no deadline has; one ahead did not wait."""
    there_s = 1_796_000_000
    date, until = (formatdate(there_s + after_s, usegmt=True) for after_s in (0, 30))
    reset = {
        "anthropic-ratelimit-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-reset": datetime.fromtimestamp(there_s + 30, UTC).isoformat(),
    }
    for told_by in ({"retry-after": until}, reset):
        error = http_error(429, {"date": date, **told_by}, b"", there_s + off_s)
        assert error.retry_after_s == pytest.approx(30, abs=ABOUT_S)


def test_the_wait_is_the_headers_then_the_details_then_the_sentences() -> None:
    info: Json = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
    body = google("RESOURCE_EXHAUSTED", "Please retry in 9s.", info)
    assert told(429, body, retry_after="7").retry_after_s == 7
    assert told(429, body, retry_after="0").retry_after_s == 0
    assert told(429, body).retry_after_s == 34
    assert told(429, google("RESOURCE_EXHAUSTED", "Please retry in 9s.")).retry_after_s == 9
    assert told(429, google("RESOURCE_EXHAUSTED")).retry_after_s is None


def test_a_model_that_is_being_loaded_tells_how_long_it_takes() -> None:
    loading = {"error": "Model gpt2 is currently loading", "estimated_time": 20.5}
    assert told(503, loading).retry_after_s == 20.5


def test_a_limit_that_is_used_up_tells_the_wait_at_last() -> None:
    headers = {"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "12s"}
    assert told(429, openai("rate_limit_exceeded"), **headers).retry_after_s == 12
    assert told(500, openai("server_error"), **headers).retry_after_s is None


def test_a_body_may_tell_the_headers_of_a_limit() -> None:
    """OpenRouter's, in milliseconds since 1970."""
    limit = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1789138080000"}
    body = {"error": {"code": 429, "message": "slow down", "metadata": {"headers": limit}}}
    error = http_error(429, {}, json.dumps(body).encode(), 1789138050.0)
    assert error.retry_after_s == 30
    assert (
        told(429, {"error": {"message": "no", "metadata": {"headers": [1]}}}).retry_after_s is None
    )


def test_what_may_not_be_retried_has_no_wait() -> None:
    assert told(400, openai(None), retry_after="7").retry_after_s is None


def test_a_word_from_a_header_comes_before_those_of_the_body() -> None:
    error = http_error(400, {}, b'{"message":"no","code":"x"}', 0, codes=("ThrottlingException",))
    assert isinstance(error, RateLimitError)
    assert error.code == "ThrottlingException"


def test_a_status_in_the_body_counts_only_where_there_is_no_other() -> None:
    assert as_error(ReportedError("no", status=503)).status == 503
    assert told(500, {"error": {"code": 429, "message": "no"}}).status == 500


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b'{"__type": "ThrottlingException"}', RateLimitError),
        (b'[{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}]', RateLimitError),
        (b'{"type": "error", "error": {"type": "overloaded_error"}}', OverloadedError),
        (b'{"error": {"strange": 1}}', ProviderServerError),
    ],
)
def test_an_error_in_place_of_an_answer_needs_no_message(
    payload: bytes, kind: type[ModelError]
) -> None:
    assert type(error_in(payload)) is kind


@pytest.mark.parametrize(
    "payload",
    [
        b'{"error": null}',
        b'{"error": ""}',
        b'{"error": {}}',
        b"[]",
        b"3",
        b"null",
        b'"no"',
        b"[[1]]",
        b"{}",
        b'{"message": {"text": "hi"}}',
        b"<",
    ],
)
def test_what_tells_no_error_in_place_of_an_answer_is_none(payload: bytes) -> None:
    assert error_in(payload) is None
