"""Constructors of the providers' dialects, which import them on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestra.codecs.dialect import Dialect

Options = Mapping[str, str]
"""The options of a model; `model` is the provider's name for it, `output_tokens_max` its limit, if
known.
"""

_OUTPUT_TOKENS_MAX = 32_000
"""Claude's default limit for an answer: about a hundred pages; it does not count towards rate
limits.
"""


def openai(name: str) -> Callable[[Options], Dialect]:
    """OpenAI's chat completions, with the quirks of this provider's servers."""

    def make(options: Options) -> Dialect:
        from orchestra.codecs.openai.dialect import OpenAiDialect
        from orchestra.codecs.openai.quirks import PRESETS

        del options
        return OpenAiDialect(PRESETS[name])

    return make


def azure(options: Options) -> Dialect:
    """OpenAI's with Azure's paths, which are the classic ones if there is an `api_version`."""
    from orchestra.codecs.openai.azure import AzureDialect

    return AzureDialect(options.get("deployment"), options.get("api_version"))


def anthropic(options: Options) -> Dialect:
    """Anthropic's messages; these require a limit of tokens, by default the model's maximum."""
    from orchestra.codecs.anthropic.dialect import AnthropicDialect

    known = options.get("output_tokens_max")
    if known is None:
        return AnthropicDialect()
    most = int(known)
    return AnthropicDialect(output_tokens=min(most, _OUTPUT_TOKENS_MAX), output_tokens_max=most)


def gemini(options: Options) -> Dialect:
    """Gemini's, at AI Studio."""
    from orchestra.codecs.gemini.dialect import GeminiDialect

    del options
    return GeminiDialect()


def vertex(options: Options) -> Dialect:
    """Gemini's, at Vertex."""
    from orchestra.codecs.gemini.dialect import GeminiDialect

    del options
    return GeminiDialect(vertex=True)


def bedrock(options: Options) -> Dialect:
    """Bedrock's Converse."""
    from orchestra.codecs.bedrock.converse import BedrockDialect

    return BedrockDialect(texts_max=_bedrock_texts_max(options))


def bedrock_invoke(options: Options) -> Dialect:
    """Bedrock's InvokeModel, with each model family's own format."""
    from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect

    family = options.get("family", "")
    return BedrockInvokeDialect(_bedrock_texts_max(options), family)


def cohere(options: Options) -> Dialect:
    """Cohere's, version 2."""
    from orchestra.codecs.cohere.dialect import CohereDialect

    del options
    return CohereDialect()


def ollama(options: Options) -> Dialect:
    """Ollama's own."""
    from orchestra.codecs.ollama.dialect import OllamaDialect

    del options
    return OllamaDialect()


def _bedrock_texts_max(options: Options) -> int:
    """On Bedrock, Cohere's embedding models accept several texts in a call, the others one."""
    return 96 if "cohere" in f"{options['model']} {options.get('family', '')}" else 1
