"""What the sentences of providers' errors mean. They are the providers' own, but for numbers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.fault_texts import KNOWN_KINDS, kind_in_message
from orchestra.codecs.faults import (
    MESSAGE_CHARS_MAX,
    ReportedError,
    as_error,
    http_error,
    read_error,
)
from orchestra.errors import (
    AuthenticationError,
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    ModelError,
    PermissionDeniedError,
    QuotaError,
    RateLimitError,
)

TOO_LONG = [
    # Anthropic, and Claude elsewhere
    "prompt is too long: 213462 tokens > 200000 maximum",
    "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease it",
    # OpenAI
    "Your input exceeds the context window of this model. Please adjust your input and try again.",
    "Invalid 'input': maximum context length is 8192 tokens.",
    "Invalid 'messages[0].content': string too long. Expected a string with maximum length "
    "10485760, but got a string with length 10485761 instead.",
    # Gemini
    "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575)",
    "The input token count exceeds the maximum number of tokens allowed 1048576.",
    # Bedrock
    "Input is too long for requested model.",
    "too many input tokens",
    "The model returned the following errors: Input Tokens Exceeded: Number of input tokens exceeds "
    "maximum length. Please update the input to try again.",
    "Expected maxLength: 20480, actual: 30000",
    "Malformed input request: expected maxLength: 50000, actual: 62000, please reformat your input.",
    "Malformed input request: #/texts/0: expected maxLength: 2048, actual: 2500, please reformat it.",
    # xAI, Groq, Moonshot, Alibaba, Perplexity, Cohere, Mistral
    "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    "Please reduce the length of the messages or completion.",
    "Invalid request: Your request exceeded model token limit: 262144 (requested: 291351)",
    "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 129024]",
    "Input too long",
    "too many tokens: size limit exceeded by 100 tokens. Try using shorter or fewer inputs",
    "too many tokens",
    "too many tokens in the request",
    "invalid request: total number of tokens exceeds limit",
    "the total number of tokens in the prompt exceeds the limit of 4081",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
    "context length",
    # vLLM, TGI, Together, llama.cpp, LM Studio, Ollama, and who stands between
    "The decoder prompt (length 40000) is longer than the maximum model length of 32768. Make sure "
    "that `max_model_len` is no smaller than the number of text tokens.",
    "'max_tokens' is too large: 9999. This model's maximum context length is 4096 tokens and your "
    "request has 10 input tokens (9999 > 4096 - 10).",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000 "
    "`inputs` tokens and 10 `max_new_tokens`",
    "Input validation error: `inputs` must have less than 1024 tokens. Given: 1500",
    "The input (33000 tokens) is longer than the model's context length (32768 tokens).",
    "the request exceeds the available context size, try increasing it",
    "The number of tokens to keep from the initial prompt is greater than the context length.",
    "prompt too long; exceeded max context length by 4 tokens",
    "prompt token count of 150000 exceeds the limit of 128000",
    "Input length 9000 exceeds the maximum allowed input length of 8192 tokens.",
    "Prompt has 5000 tokens, but the configured context size is 4096 tokens",
    "invalid params, context window exceeds limit",
    "This prompt is over the model's maximum context of 8192 tokens.",
    "The text is too long for the model.",
    "Your request exceeds the maximum number of tokens.",
    "Prompt exceeds the limit of 8192 tokens",
]
WRONG_OTHERWISE = [
    "max_tokens: Input should be greater than or equal to 1",
    "You exceeded the output tokens per minute of your plan",
    # names, stop sequences, and what is quoted of the caller
    "Invalid 'tools[0].function.name': string too long. Expected a string with maximum length 64, "
    "but got a string with length 70 instead.",
    "Invalid parameter: stop has too many tokens",
    "Malformed input request: #/stop_sequences/0: expected maxLength: 50, actual: 99, please "
    "reformat your input and try again.",
    "The name of a tool is too long for an identifier",
    "Please reduce the length of the function's name",
    "Invalid schema for function 'is_prompt_too_long': no type",
    "Unknown tool `count input tokens exceeds`",
    "Tool 'maximum context length' is not a function",
    "Unsupported language: 'this model does not support it'",
    "Unknown tool 'content violates usage guidelines'",
    "Invalid value: `Input data may contain inappropriate content.`. Write text.",
    "Invalid value: 'gpt is not a valid model ID'. Write a list.",
    "No tool is called 'incorrect api key provided'",
    # of policies, moderation and credits, but not that they forbid this request
    "Unknown parameter: usage policy. Read our usage guidelines.",
    "The model requires moderation to be a boolean",
    "The input token count is 12 but model only supports images",
    "The number of credits is not a number",
    "invalid model id: write one",
    # of a model, of tools and of JSON, but not that the model cannot
    "max_tokens has to be a number that is supported",
    "At most 10 image(s) may be provided in one prompt.",
    "The tool supports at most 5 arguments",
    "Only one of the two is allowed. This model has both.",
    "The method is not enabled for your project",
    "A function calling itself with a response mime type of text is no tool",
    "The json mode cannot be parsed",
    # dates and limits that are nobody's quota
    "The tool's dates are to be written as year/month/day",
    "There is no such value of `API usage limits`",
]
NOT_BY_THIS_MODEL = [
    "`temperature` is deprecated for this model.",
    "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
    "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) "
    "value is supported.",
    "Unsupported parameter: 'top_p' is not supported with this model.",
    "The model returned the following errors: `temperature` is deprecated for this model.",
    "This model does not support effort level 'xhigh'. Supported levels: high, low.",
    "This model doesn't support tool use.",
    "invalid top_p: only 0.5 is allowed for this model",
    "Seed is not enabled for models/gem-x",
    "Function calling with a response mime type: 'text/x' is unsupported",
    "Forced function calling (ANY mode) with a response mime type: 'text/x' is unsupported",
    "json mode cannot be combined with tools",
    # an answer that may not be as long as was asked for
    "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas "
    "you provided 100000.",
    "max_tokens: 48384 > 32000, which is the maximum allowed number of output tokens for claude-x",
    "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
    "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]",
    "The maximum tokens you requested exceeds the model limit of 4096.",
    "max_tokens exceeds the limit of 8192",
    "The value of `max_tokens` exceeds the maximum number of output tokens of this model",
    "The requested number of completion tokens exceeds the limit",
    "The request exceeds the model's limit of 4096 output tokens",
    # Ollama, also behind its OpenAI-compatible API
    "registry.ollama.ai/library/gem-x:2b does not support tools",
    '"llama-x:8b" does not support thinking',
    "this model only supports one image while more than one image requested",
    # DeepSeek, OpenAI, llama.cpp
    "Thinking mode does not support this tool_choice",
    "deepseek-reasoner does not support successive user or assistant messages (messages[1] and "
    "messages[2] in your input).",
    "Function tools with reasoning_effort are not supported for gpt-x in /v1/chat/completions.",
    "Invalid content type. image_url is only supported by certain models.",
    "tools param requires --jinja flag",
    # vLLM
    '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    "llama-x is not a multimodal model",
    "At most 0 image(s) may be provided in one prompt.",
]
SPENT = [
    "Your credit balance is too low to access the API.",
    "You have reached your specified API usage limits. You will regain access on 2027-01-01 at "
    "00:00 UTC.",
    "You have reached your specified workspace API usage limits. You will regain access on "
    "2027-01-01.",
    "This request would exceed your account's spend limit",
]
FILTERED = [
    "The response was filtered due to the prompt triggering a content management policy.",
    "Output blocked by content filtering policy",
    "The answer was stopped: content_filter",
    "Your input may contain content that is not allowed by our safety system.",
    "Content violates usage guidelines. Team: x, API key ID: y, Model: z, Failed check: BIO",
    "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
    'openai/gpt-x requires moderation on OpenRouter. Your input was flagged for "violence".',
    "x/y requires moderation and your input was flagged",
    "<400> InternalError.Algo.DataInspectionFailed: Output data may contain inappropriate content.",
]
NOT_ALLOWED = [
    "You do not have access to the model, whose maximum context length is 8192 tokens.",
    "The model identifier is invalid for you",
    "You are not allowed what is not supported by this model",
    "gpt is not a valid model ID for you",
    "Your organization requires moderation by its owner",
]
STOPPED = [
    "This organization has been disabled.",
    "Organization has been restricted. Please reach out to support.",
    "Your organization 'org-x' has been disabled",
    "Your account was suspended",
]
TOO_EARLY = [
    "Too many tokens, please wait before trying again.",
    "Too many requests, please wait before trying again.",
    "Tokens per minute limit exceeded - too many tokens processed.",
    "This request would exceed your account's rate limit of 8,000 tokens per minute.",
    "You exceeded the tokens per minute limit: 60000. Request would exceed token limit",
    "Request too large for gpt-x on tokens per min (TPM): Limit 30000, Requested 39000. The input "
    "or output tokens must be reduced in order to run successfully.",
    "Number of request tokens has exceeded your per-minute rate limit",
    "This request exceeds the limit of 60000 tokens per minute",
    "You are using a Trial key, which is limited to 10 API calls / minute.",
]
TOO_EARLY_TODAY = [
    "Too many tokens per day, please wait before trying again.",
    "Tokens per day limit exceeded - too many tokens processed.",
    "Rate limit reached for gpt-x on requests per day (RPD): Limit 200, Used 200, Requested 1.",
    "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000",
    "Number of request tokens has exceeded your daily rate limit",
    "You are using a Trial key, which is limited to 1000 API calls / month.",
    "you've reached your weekly usage limit, please upgrade to continue",
]
MEANT = [
    *((400, message, ContextLengthError) for message in TOO_LONG),
    *((400, message, InvalidRequestError) for message in WRONG_OTHERWISE),
    *((400, message, PermissionDeniedError) for message in STOPPED),
    *((400, message, CapabilityError) for message in NOT_BY_THIS_MODEL),
    *((400, message, QuotaError) for message in SPENT),
    *((400, message, ContentFilterError) for message in FILTERED),
    *((403, message, PermissionDeniedError) for message in NOT_ALLOWED),
    *((403, message, ContentFilterError) for message in FILTERED),
    *((403, message, QuotaError) for message in SPENT),
    (403, "This API method requires billing to be enabled.", QuotaError),
    (403, "The security token included in the request is expired", AuthenticationError),
    *((429, message, RateLimitError) for message in TOO_EARLY),
    *((429, message, QuotaError) for message in TOO_EARLY_TODAY),
]


@pytest.mark.parametrize(("status", "message", "kind"), MEANT)
def test_a_sentence_means_what_its_provider_means_by_it(
    status: int, message: str, kind: type[ModelError]
) -> None:
    body = json.dumps({"message": message}).encode()
    assert type(http_error(status, {}, body, 0)) is kind
    assert type(as_error(ReportedError(message, ("400",), status))) is kind, "in a stream"


@pytest.mark.parametrize("message", TOO_EARLY)
@pytest.mark.parametrize(
    "word", ["throttlingException", "rate_limit_error", "too_many_tokens_error"]
)
def test_a_stream_that_came_too_early_is_told_by_its_word(word: str, message: str) -> None:
    """Where the status was 200, a word for throttling is as good as a 429."""
    assert type(as_error(ReportedError(message, (word,)))) is RateLimitError


@pytest.mark.parametrize("message", TOO_EARLY)
def test_a_stream_without_any_word_does_not_take_a_rate_for_a_prompt(message: str) -> None:
    assert as_error(read_error({"error": {"message": message}})).retryable


@given(
    st.sampled_from([message for _, message, _ in MEANT]),
    st.sampled_from([401, 402, 404, 408, 409, 424, 498, 499, 500, 502, 503, 504, 529]),
)
def test_a_status_that_is_clear_is_not_asked_for_more(message: str, status: int) -> None:
    body = json.dumps({"message": message}).encode()
    assert type(http_error(status, {}, body, 0)) is type(http_error(status, {}, b"", 0))


@given(st.sampled_from([message for _, message, _ in MEANT]))
def test_what_came_too_early_is_never_too_long(message: str) -> None:
    body = json.dumps({"message": message}).encode()
    assert type(http_error(429, {}, body, 0)) in (RateLimitError, QuotaError)


@pytest.mark.parametrize(
    "message",
    [
        "You exceeded your current quota, please check your plan and billing details. Quota "
        "exceeded for metric: input_token_count, limit: 250000\nPlease retry in 34.07s.",
        "Rate limit reached for gpt-x on requests per day (RPD): Limit 10000, Used 10000, "
        "Requested 1. Please try again in 8.64s.",
    ],
)
def test_a_quota_that_a_short_wait_is_enough_for_is_a_rate(message: str) -> None:
    """The sentence may be the only place that tells the wait."""
    error = http_error(429, {}, json.dumps({"message": message}).encode(), 0)
    assert type(error) is RateLimitError
    assert error.retry_after_s in (34.07, 8.64)
    assert type(as_error(ReportedError(message, ("rate_limit_exceeded",)))) is RateLimitError
    longer = message.partition("Please")[0] + "Please try again in 24 hours"
    assert type(http_error(429, {}, json.dumps({"message": longer}).encode(), 0)) is QuotaError


def test_only_as_much_of_a_message_decides_as_is_kept() -> None:
    """To search a message of megabytes would take seconds."""
    for before, kind in ((100, ContextLengthError), (MESSAGE_CHARS_MAX, InvalidRequestError)):
        assert type(as_error(ReportedError("." * before + " prompt is too long", (), 400))) is kind


@given(st.text(max_size=200), st.sets(st.sampled_from(KNOWN_KINDS)))
def test_only_what_is_asked_for_is_found(message: str, kinds: set[type[ModelError]]) -> None:
    assert kind_in_message(message, kinds) in {None, *kinds}
