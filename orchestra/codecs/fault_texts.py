"""The meaning of a provider's error message, if it has no known error code.

Rules of the file: a pattern matches a real provider's sentence, with its subject (`input tokens
exceed`, not `exceed`), since limits of tokens may be per minute, per answer or per prompt; only
"does not support" needs none, as another model may support whatever this one does not. Quoted
parts come from the caller, and are ignored. The caller of this module names the possible
meanings: see `faults`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from orchestra.errors import (
    AuthenticationError,
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    ModelError,
    ModelNotFoundError,
    PermissionDeniedError,
    QuotaError,
)

_QUOTED = re.compile(
    r"""(?<!\w)(?<!["']:)(?<!["']: )('[^']{1,200}'|"[^"]{1,200}"|`[^`]{1,200}`)(?!\w)"""
)
"""Quotes, which mostly contain the caller's own names and values. A quote after a key belongs to
an error that is passed on: `{'message': '...'}`."""
_OF_MONEY = r"\b(billing|daily|weekly|monthly)\b"
_USED_UP = r"(limit|quota|exceed|allowance|\bcap\b)"
_EXCEEDS = (
    r"\b(prompt|inputs?|messages?|texts?|request|conversation)( length)? exceeds? "
    r"(?!.{0,60}(output|completion|rate|per minute)).{0,40}\b(tokens?|context)\b"
)
_OVER_LENGTH = (
    r"(^|request: |errors: )(#/(texts|inputText|prompt|messages|system)\b[^:]{0,80}: )?"
    r"expected maxLength: \d"
)
"""Bedrock's, for a body or a text in it; other paths are about names and stop sequences."""
_ANSWER = r"\b(max_tokens|(output|completion|maximum) tokens)\b"
_BOUND = r"\b(at most|maximum|too large|less than or equal|range|exceeds)\b"
_LONG_ANSWER = rf"{_ANSWER}(?! per ).{{0,40}}{_BOUND}|{_BOUND}.{{0,60}}{_ANSWER}(?! per )"
"""Of an answer as long as requested, which another model may be able to give."""
_BY_MODEL = r"(for|with|by|on|in) (this model|models/)"
_STOPPED = (
    r"\b(organization|account|workspace|project)( \S+)? (is|was|has been) "
    r"(disabled|restricted|suspended|deactivated)\b"
)
"""Anthropic's and Groq's sentences, and others of their form."""
_SENTENCES: Mapping[type[ModelError], tuple[str, ...]] = {
    ContextLengthError: (
        r"\b(prompt|input)( is| was)? too (long|large)",
        r"(max|maximum|model's|available|configured) context",
        r"context (length|window|size|limit)",
        r"too long for (the |this |requested )?model",
        r"\breduce the length of (the|your) (input|prompt|messages?|conversation|text)",
        r"too many (input|prompt) tokens",
        # Cohere; followed by a comma, it is Amazon's throttling.
        r"(^|: )too many tokens(:| in |\.?$)",
        r"\b(prompt|input) tokens?( count)?( of)?( \(?\d[\d,]*\)?)? exceed",
        r"\binput token count is \d[\d,]* but (the )?model only supports up to",  # Vertex
        r"number of tokens( in the (prompt|input|request))? exceeds",
        _EXCEEDS,
        r"exceed(s|ed)? (the )?(model|model's|prompt|input) token limit",  # Moonshot
        r"maximum (prompt|model|allowed input) length",  # xAI, vLLM, Poolside
        r"tokens \+ .{1,30} must be <=",  # Hugging Face's TGI, Together
        r"must have less than \d+ tokens",
        r"range of input length should be",  # Alibaba
        r"\bprompt (exceeds max length|超长)",  # Zhipu
        r"\bContextWindowExceeded",  # LiteLLM, before the upstream provider's message
        _OVER_LENGTH,
        r"string too long\b.{0,60}maximum length \d{6,}",  # OpenAI; a name's is 64
    ),
    ContentFilterError: (
        r"content (management|filter|policy)|content_filter|safety system",
        r"\b(content violates|violating our) usage (guidelines|polic)",  # xAI; OpenAI
        r"requires moderation\b.{0,60}\binput was flagged",  # OpenRouter
        r"\bcontent exists risk\b",  # DeepSeek
        r"datainspectionfailed|data may contain inappropriate content",  # Alibaba
        # Zhipu, and Volcano Engine; MiniMax
        r"\bsensitive (content|information)\b|敏感内容|\bnew_sensitive\b",
        r"\bContentPolicyViolation",  # LiteLLM
    ),
    QuotaError: (
        r"credit balance|insufficient (credit|balance|fund|quota)|spend(ing)? limit",
        # SiliconFlow; Novita; Volcano Engine
        r"balance is insufficient|not enough balance|overdue balance",
        r"budget has been exceeded|\bExceededBudget\b",  # LiteLLM
        r"余额不足|欠费|额度(不足|已用)|调用次数限额|使用上限",  # Zhipu; New API
        r"\bfree allocation\b",  # Cloudflare, for a day
        r"\bfree tier of the model has been exhausted",  # Alibaba
        r"\bUserBy\w*ByDay\b|\blimit_rpd/",  # GitHub; OpenRouter
        r"credits (are|is) depleted|doesn.t have any credits",  # Gemini; xAI
        r"\bout of (\w+ ){0,3}(credits|quota)\b",  # xAI; Azure API Management
        r"API usage limit|regain access on",  # Anthropic
        r"billing (details|to be enabled)|(enable|requires?|update) (your )?billing",
        r"(requests?|calls?|api|tokens?|models?).{0,30}(per|/)[ -]?(day|month)\b",
        rf"{_OF_MONEY}.{{0,60}}{_USED_UP}|{_USED_UP}.{{0,60}}{_OF_MONEY}",
    ),
    PermissionDeniedError: (_STOPPED,),
    AuthenticationError: (
        r"api key not valid|invalid api key|make sure your api key is valid",
        r"incorrect api key provided",  # xAI
        r"security token included in the request is",
    ),
    ModelNotFoundError: (
        r"model identifier is invalid|\bis not a valid model id\b",
        r"with on-demand throughput isn.t supported",  # Bedrock: the model only has profiles
        r"\b(unknown|no such) model\b|模型不存在",  # Zhipu; Cloudflare
        r"\binvalid model name passed in\b",  # LiteLLM
    ),
    CapabilityError: (
        # What one model or server does not support, another may.
        r"(does not|doesn't) support\b|(is|are) not supported\b",
        rf"(deprecated|unsupported|not (supported|available|enabled)) {_BY_MODEL}",
        r"\bonly (supported|available|allowed) (for|with|by|on|in) (.{1,20} )?models\b",
        rf": only .{{1,40}} (is|are) (allowed|supported) {_BY_MODEL}",  # Moonshot
        r"\bthis model only (supports|works)\b",  # Gemini, Ollama
        _LONG_ANSWER,
        r"\bis not a multimodal model|\bat most 0 (image|audio|video)|\brequires --\w",  # vLLM
        # The request begins the answer, which some models cannot continue.
        r"prefill|must end with a user message|expected last role.{0,80}got assistant",
        r"when thinking is enabled\b|^thinking may not be enabled when\b",  # Claude
        r"cannot both be specified for this model",
        r"function calling\b.{0,40} with a response mime type\b.{0,40}\bunsupported",  # Gemini
        r"json mode cannot be combined with (tool|function)",  # Groq
    ),
}
_PATTERNS = tuple(
    (kind, re.compile("|".join(patterns), re.IGNORECASE)) for kind, patterns in _SENTENCES.items()
)
"""Tried in order."""
KNOWN_KINDS = tuple(_SENTENCES)
"""All possible meanings of a message."""


def kind_in_message(message: str, kinds: Collection[type[ModelError]]) -> type[ModelError] | None:
    """The kind of error, of these kinds, that a provider's message means; None if unknown."""
    if not kinds:
        return None
    plain = _QUOTED.sub("...", message)
    found = (kind for kind, pattern in _PATTERNS if kind in kinds and pattern.search(plain))
    return next(found, None)
