"""The differences between servers with OpenAI's dialect, as named flags.

The code of the dialect checks flags, never the provider's name. A server without a preset is
`GENERIC`, or `GENERIC` with a flag changed: `attrs.evolve(GENERIC, top_k=False)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import attrs
import msgspec

from orchestra.codecs.faults import as_error, read_error
from orchestra.codecs.tool_calls import call_id
from orchestra.errors import ModelError, QuotaError, RateLimitError
from orchestra.values import Json, ReasoningEffort

Efforts: TypeAlias = Mapping[ReasoningEffort, str]

_CALL_ID_CHARS = 9
"""The length that Mistral requires, enough for the calls of one conversation."""
_USUAL: Efforts = MappingProxyType({"low": "low", "medium": "medium", "high": "high"})
_OPENAI: Efforts = MappingProxyType(
    {**_USUAL, "none": "none", "minimal": "minimal", "xhigh": "xhigh", "max": "xhigh"}
)
_NO_EFFORTS: Efforts = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Quirks:
    """The flags of one kind of server. A flag is on if the server has the ability."""

    name: str
    """The provider's name, which is also its key in a request's extras."""

    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    names: bool = True
    """The server accepts the speaker's name; otherwise the name is left out."""
    files: bool = False
    """The server accepts PDFs in OpenAI's format; text files can be sent to any server."""
    prompt_cache: bool = False
    """The server accepts marks for the prompt cache, like Anthropic's."""
    seed_key: str | None = "seed"
    """The field for a seed; None if the server has none."""
    top_k: bool = False
    penalties: bool = True
    efforts: Efforts = _USUAL
    """The server's values for the reasoning effort; an effort without one is refused."""
    thinking_switch: bool = False
    """Thinking is switched off in a separate field, `thinking`."""
    include_usage: bool = True
    """Usage has to be requested for a stream; off if that is an error, or unnecessary."""

    tools: bool = True
    strict_tools: bool = False
    """The server accepts `strict` for a tool; otherwise `strict` is left out."""
    parallel_tool_calls: bool = True
    """The server accepts a limit of one tool call at a time."""
    user_after_tool: bool = True
    """The server accepts a user's message right after a tool's result; otherwise an assistant's
    message is put between them."""
    call_ids: str = r".{1,40}"
    """The pattern of tool call ids that the server accepts; others are replaced consistently."""
    json_object: bool = True
    json_schema: bool = True
    logprobs: bool = True
    """The server reports log probabilities of tokens in OpenAI's format."""

    reasoning_key: str | None = None
    """The field in which the server wants its reasoning back; None if it does not want it."""
    reasoning_details: bool = False
    """The server wants back the list with its sealed reasoning."""
    google_seals: bool = False
    """The server may be Google, or a gateway to it: a call is sent back with its seal."""
    function_calls: bool = False
    """The server may still answer in the old `function_call`, though it was sent `tools`."""
    done_is_finish: bool = False
    """An answer may end, by `[DONE]` or by the end of a JSON body, without a stop reason.
    If this is off, such an answer was cut; and so was a stream without any text or tool call."""

    embeddings: bool = True
    embeddings_path: str = "/embeddings"
    embeddings_format: Literal["float", "base64", "base64_int8"] = "float"
    """The requested encoding of vectors: numbers; or base64 of float32, which is a quarter of the
    bytes and needs no rounding; or base64 of int8, for a server that has no other encoding."""
    dimensions_key: str = "dimensions"
    texts_max: int = 2048
    """The most texts in one embedding call."""
    texts_tokens_max: int | None = None
    """The most estimated tokens of all texts in one embedding call; None without a limit."""
    reranking: bool = False
    rerank_top_key: str | None = "top_n"
    """The field for the number of results; without one, the server is asked for all of them."""
    rerank_texts_key: str = "documents"
    ranked_max: int | None = None
    """The most texts in one rerank call, for a server that scores each by itself: more are sent in
    several calls. None where scores may depend on the other texts of a call: all are sent in one.
    """

    busy_marks: tuple[str, ...] = ()
    """Texts in an error's body that mean a rate limit, whatever its status."""
    spent_marks: tuple[str, ...] = ()
    """Texts in an error's body that mean a used-up budget, whatever its status."""

    def call_id(self, id_: str) -> str:
        """The id of a tool call in a form that this server accepts."""
        return call_id(id_, self.call_ids, _CALL_ID_CHARS)

    def error_of(self, answer: bytes | Json) -> ModelError:
        """The error in an answer with status 200, from its JSON or its decoded value."""
        return as_error(read_error(answer), self.marked_kind(answer))

    def marked_kind(self, answer: bytes | Json) -> type[ModelError] | None:
        """The class of an error by this server's marks, whatever its status; None without marks."""
        if not (self.busy_marks or self.spent_marks):
            return None
        body = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        if any(mark.encode() in body for mark in self.busy_marks):
            return RateLimitError
        return QuotaError if any(mark.encode() in body for mark in self.spent_marks) else None


OPENAI = Quirks(
    name="openai",
    max_tokens_key="max_completion_tokens",  # the older name is refused by reasoning models
    files=True,
    efforts=_OPENAI,
    strict_tools=True,
    embeddings_format="base64",
    texts_tokens_max=250_000,  # over 300,000 is refused; an estimate may be too low
)
AZURE = attrs.evolve(OPENAI, name="azure", files=False)  # its chats refuse them
GROQ = Quirks(
    name="groq",
    max_tokens_key="max_completion_tokens",
    efforts=MappingProxyType({**_USUAL, "none": "none"}),
    logprobs=False,
    embeddings=False,
)
MISTRAL = Quirks(
    name="mistral",
    seed_key="random_seed",
    names=False,
    include_usage=False,  # it always reports usage, and refuses unknown fields
    efforts=MappingProxyType({"none": "none", "high": "high"}),
    strict_tools=True,
    user_after_tool=False,
    call_ids=r"[a-zA-Z0-9]{9}",
    logprobs=False,
    dimensions_key="output_dimension",
)
DEEPSEEK = Quirks(
    name="deepseek",
    seed_key=None,
    efforts=MappingProxyType(
        {
            "minimal": "low",
            "low": "low",
            "medium": "high",
            "high": "high",
            "xhigh": "max",
            "max": "max",
        }
    ),
    thinking_switch=True,
    parallel_tool_calls=False,
    json_schema=False,
    reasoning_key="reasoning_content",  # a turn with tools is refused without it
    embeddings=False,
)
OPENROUTER = Quirks(
    name="openrouter",
    files=True,
    prompt_cache=True,
    top_k=True,
    efforts=_OPENAI,
    strict_tools=True,
    reasoning_key="reasoning",
    reasoning_details=True,  # Claude and Gemini refuse a turn with tools without it
    busy_marks=("openrouter_in_flight_budget",),
    spent_marks=("Key limit exceeded",),
)
TOGETHER = Quirks(
    name="together",
    top_k=True,
    parallel_tool_calls=False,
    logprobs=False,  # it has its own format
    reranking=True,
)
VLLM = Quirks(
    name="vllm",
    top_k=True,
    reasoning_key="reasoning",
    embeddings_format="base64",
    reranking=True,
)
LLAMA_CPP = Quirks(
    name="llama-cpp",
    top_k=True,
    reasoning_key="reasoning_content",
    embeddings_format="base64",
    reranking=True,
)
TEI = Quirks(
    name="tei",
    embeddings_path="/v1/embeddings",  # reranking is not below /v1
    texts_max=32,  # by default; `--max-client-batch-size` allows more
    reranking=True,
    rerank_top_key=None,
    rerank_texts_key="texts",
    ranked_max=32,
)
XAI = Quirks(
    name="xai",
    max_tokens_key="max_completion_tokens",
    reasoning_key="reasoning_content",
    embeddings=False,
)
PERPLEXITY = Quirks(
    name="perplexity",
    seed_key=None,
    top_k=True,
    include_usage=False,
    efforts=MappingProxyType({**_USUAL, "minimal": "minimal"}),
    tools=False,
    json_object=False,
    logprobs=False,
    embeddings_path="/v1/embeddings",  # its chat is not below /v1
    embeddings_format="base64_int8",
    texts_max=512,
)
FIREWORKS = Quirks(
    name="fireworks",
    top_k=True,
    include_usage=False,  # it always reports usage, in the chunk with the stop reason
    efforts=MappingProxyType({**_USUAL, "none": "none"}),
    reasoning_key="reasoning_content",
    reranking=True,
)
CEREBRAS = Quirks(
    name="cerebras",
    max_tokens_key="max_completion_tokens",
    penalties=False,
    strict_tools=True,
    embeddings=False,
)
MOONSHOT = Quirks(
    name="moonshot",
    seed_key=None,
    efforts=_NO_EFFORTS,
    parallel_tool_calls=False,
    json_schema=False,
    logprobs=False,
    reasoning_key="reasoning_content",
    embeddings=False,
)
HUGGINGFACE = Quirks(name="huggingface", parallel_tool_calls=False, embeddings=False)
ALIBABA = Quirks(name="alibaba", top_k=True, efforts=_NO_EFFORTS, texts_max=10)
OLLAMA_V1 = Quirks(
    name="ollama",
    efforts=MappingProxyType({**_USUAL, "none": "none"}),
    parallel_tool_calls=False,
)
GENERIC = Quirks(
    name="openai-compatible",
    files=True,
    top_k=True,
    efforts=MappingProxyType({**_OPENAI, "xhigh": "high", "max": "high"}),
    google_seals=True,
    function_calls=True,
    done_is_finish=True,
    reranking=True,
    rerank_top_key=None,  # it is `top_k` at Voyage
)
"""Any other server: it is sent everything that a request sets, and read leniently."""

PRESETS: Mapping[str, Quirks] = MappingProxyType(
    {each.name: each for each in tuple(globals().values()) if isinstance(each, Quirks)}
    | {"moonshotai": MOONSHOT}
)
"""Every known server, by its name, which is that of its provider; and by its aliases."""
