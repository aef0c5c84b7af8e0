"""Known facts about common models, by name: data for routing and for people.

Collected in November 2026 from the providers' publications. A row matches at the start of a model's
name, or after a `/` or a `.` in it, as in the names that gateways and Bedrock use. The first
matching row is used, so longer names come first. Unknown facts are None.
`[models.NAME.capabilities]` in the configuration overrides the capabilities.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias

import attrs

from orchestra.values import Capabilities

_ABILITIES = ("tools", "vision", "files", "json_schema", "reasoning")


@attrs.frozen(kw_only=True)
class Facts:
    """The known facts about one model.

    `dimensions` is the default length of its vectors; `shortens` is whether a request may ask for
    fewer dimensions.
    """

    capabilities: Capabilities = Capabilities()
    dimensions: int | None = None
    shortens: bool = False


UNKNOWN = Facts()


@lru_cache(maxsize=1024)
def known(model: str) -> Facts:
    """The known facts about the model that has this name at its provider."""
    name = model.lower()
    return next((facts for pattern, facts in _TABLE if pattern.search(name)), UNKNOWN)


def _chat(names: str, context: int | None, output: int | None, can: str, cannot: str = "") -> _Row:
    """A row for models that generate text; an ability in neither list is unknown."""
    listed = {ability: ability in can.split() for ability in (*can.split(), *cannot.split())}
    capabilities = Capabilities(
        context_tokens=context,
        output_tokens_max=output,
        embeddings=False,
        reranking=False,
        **{ability: listed.get(ability) for ability in _ABILITIES},
    )
    return _pattern(names), Facts(capabilities=capabilities)


def _embeds(names: str, context: int | None, dimensions: int, *, shortens: bool = False) -> _Row:
    """A row for models that make only embeddings."""
    capabilities = Capabilities(
        context_tokens=context,
        embeddings=True,
        reranking=False,
        **dict.fromkeys(_ABILITIES, False),
    )
    return _pattern(names), Facts(
        capabilities=capabilities, dimensions=dimensions, shortens=shortens
    )


def _reranks(names: str) -> _Row:
    """A row for models that only rerank; they cut a text that is too long, or read it in chunks."""
    capabilities = Capabilities(
        embeddings=False, reranking=True, **dict.fromkeys(_ABILITIES, False)
    )
    return _pattern(names), Facts(capabilities=capabilities)


def _pattern(names: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|[/.])(?:{names})")


_Row: TypeAlias = tuple[re.Pattern[str], Facts]
_ALL = "tools vision json_schema reasoning"
_NO_REASONING = "tools vision json_schema"
_BLIND = "tools json_schema reasoning"
_READS, _READS_NO_REASONING = f"files {_ALL}", f"files {_NO_REASONING}"
"""The abilities of models that read PDFs according to their providers' documentation. For other
models it is unknown.
"""

_NOT_SUPPORTED = Capabilities(embeddings=False, reranking=False, **dict.fromkeys(_ABILITIES, False))
"""The capabilities of a model that orchestra cannot ask anything."""

_TABLE: tuple[_Row, ...] = (
    # rerank models, by their names: of Cohere, Voyage, Jina, BAAI, Qwen and others
    (_pattern(r"amazon\.rerank"), Facts(capabilities=_NOT_SUPPORTED)),
    _reranks("[^/]*rerank|zerank|ms-marco|jina-colbert|llama-?rank"),
    # OpenAI: the context includes the answer
    _embeds("text-embedding-3-large", 8_191, 3_072, shortens=True),
    _embeds("text-embedding-3-small", 8_191, 1_536, shortens=True),
    _embeds("text-embedding-ada-002", 8_191, 1_536),
    _chat("gpt-5[.0-9]*-chat", 128_000, 16_384, _READS),
    _chat("gpt-5-pro", 400_000, 272_000, _READS),
    _chat(r"gpt-5\.4-(?:mini|nano)", 400_000, 128_000, _READS),
    _chat(r"gpt-5\.[4-6]|gpt-6", 1_050_000, 128_000, _READS),
    _chat("gpt-5", 400_000, 128_000, _READS),
    _chat(r"gpt-4\.1", 1_047_576, 32_768, _READS_NO_REASONING, "reasoning"),
    _chat("gpt-4o|chatgpt-4o", 128_000, 16_384, _READS_NO_REASONING, "reasoning"),
    _chat("gpt-4-turbo", 128_000, 4_096, "tools vision", "json_schema reasoning"),
    _chat("gpt-4(?:-0613)?$", 8_192, 4_096, "tools", "vision files json_schema reasoning"),
    _chat(r"gpt-3\.5-turbo", 16_385, 4_096, "tools", "vision files json_schema reasoning"),
    _chat("gpt-oss", 131_072, None, _BLIND, "vision files"),
    _chat("o3-mini", 200_000, 100_000, _BLIND, "vision files"),
    _chat("o[134](?:-|$)", 200_000, 100_000, _READS),
    # Anthropic
    _chat("claude-(?:haiku|sonnet|opus)-4-5", 200_000, 64_000, _READS),
    _chat("claude-opus-4-1", 200_000, 32_000, "tools vision files reasoning"),
    _chat("claude-(?:sonnet|opus)-4-[6-8]", 1_000_000, 128_000, _READS),
    _chat("claude-(?:haiku|sonnet|opus|fable|mythos)-5", 1_000_000, 128_000, _READS),
    _chat("claude-sonnet-4", 200_000, 64_000, "tools vision files reasoning"),
    _chat("claude-opus-4", 200_000, 32_000, "tools vision files reasoning"),
    _chat("claude-3-7-sonnet", 200_000, 64_000, "tools vision files reasoning"),
    _chat("claude-3-5", 200_000, 8_192, "tools vision files", "reasoning"),
    _chat("claude-3", 200_000, 4_096, "tools vision", "reasoning"),
    _chat("claude-", None, None, "tools vision"),
    # Google
    _embeds("gemini-embedding-001", 2_048, 3_072, shortens=True),
    _embeds("gemini-embedding-2", 8_192, 3_072, shortens=True),
    _embeds("text-embedding-00[45]", 2_048, 768, shortens=True),
    _embeds("embeddinggemma", 2_048, 768),
    _chat("gemini-4", 1_048_576, 1_048_576, _READS),
    _chat(r"gemini-(?:2\.5|3|flash|pro)", 1_048_576, 65_536, _READS),
    _chat(r"gemini-2\.0", 1_048_576, 8_192, _READS_NO_REASONING),
    # Cohere
    _embeds("embed-v4|cohere.embed-v4", 128_000, 1_536, shortens=True),
    _embeds("embed-v5", 128_000, 2_048),
    _embeds("embed-(?:english|multilingual)-light-v3", 512, 384),
    _embeds("embed-(?:english|multilingual)-v3", 512, 1_024),
    _chat("command-a-plus", 128_000, 64_000, _ALL),
    _chat("command-a", 256_000, 8_000, "tools json_schema"),
    _chat("command-r", 128_000, 4_096, "tools json_schema", "reasoning"),
    # Mistral
    _embeds("mistral-embed", 8_192, 1_024),
    _embeds("codestral-embed", 8_192, 1_536, shortens=True),
    _chat("mistral-large-4", 1_048_576, None, _ALL),
    _chat("mistral-(?:medium|small)-latest", 262_144, None, _ALL),
    _chat("mistral-large-(?:latest|3|2512)", 262_144, None, _NO_REASONING),
    _chat("ministral-3b", 131_072, None, _NO_REASONING),
    _chat("ministral", 262_144, None, _NO_REASONING),
    _chat("magistral", 262_144, None, _ALL),
    _chat("codestral", 128_000, None, "tools json_schema", "vision"),
    # DeepSeek, xAI, Moonshot, Perplexity
    _chat("deepseek-v4-pro", 1_000_000, 393_216, _BLIND),
    _chat("deepseek-(?:v4|flash)", 1_000_000, 393_216, "tools json_schema reasoning"),
    _chat(r"grok-4\.(?:20|3).*non-reasoning", 1_000_000, None, _NO_REASONING, "reasoning"),
    _chat(r"grok-4\.(?:20|3)", 1_000_000, None, _ALL),
    _chat(r"grok-4\.[5-7]", 500_000, None, _ALL),
    _chat("kimi-k3", 1_048_576, None, _ALL),
    _chat(r"kimi-k2[.p][5-7]", 262_144, None, _ALL),
    _embeds(r"pplx-embed-v1-0\.6b", 32_000, 1_024, shortens=True),
    _embeds("pplx-embed-v1-4b", 32_000, 2_560, shortens=True),
    _chat("sonar-pro", 200_000, 8_000, "", "tools"),
    _chat("sonar", 128_000, None, "", "tools"),
    # Amazon
    _embeds(r"titan-embed-text-v2", 8_192, 1_024, shortens=True),
    _embeds(r"titan-embed-(?:text-v1|g1)", 8_192, 1_536),
    _embeds("nova-2-multimodal-embeddings", 8_192, 3_072, shortens=True),
    _chat("nova-2", 1_000_000, 64_000, _READS),
    _chat("nova-premier", 1_000_000, 10_000, _READS_NO_REASONING),
    _chat("nova-(?:lite|pro)", 300_000, 10_000, _READS_NO_REASONING),
    _chat("nova-micro", 128_000, 10_000, "tools json_schema", "vision"),
    _chat("titan-text", 42_000, None, "", "tools vision files json_schema reasoning"),
    # models that are often run locally: the context depends on the server's settings
    _embeds("nomic-embed-text", 8_192, 768),
    _embeds("mxbai-embed-large", 512, 1_024),
    _embeds("all-minilm", 512, 384),
    _embeds("bge-m3", 8_192, 1_024),
    _embeds("bge-large", 512, 1_024),
    _embeds("bge-base", 512, 768),
    _embeds("bge-small", 512, 384),
    _chat("llama3|meta-llama-3|llama-3", None, None, "tools", "reasoning"),
)
