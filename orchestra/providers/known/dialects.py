"""Dialects of providers, each imported when it is first made."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestra.codecs.dialect import Dialect

Options = Mapping[str, str]
"""The options of a model; as `model` its provider's name for it, and as `output_tokens_max` how
much it can say, where that is known."""

_OUTPUT_TOKENS_MAX = 32_000
"""Of Claude where a request does not say: an answer of a hundred pages, and no limit of rate."""


def openai(name: str) -> Callable[[Options], Dialect]:
    """OpenAI's chat completions, with the quirks of the servers of this name."""

    def make(options: Options) -> Dialect:
        from orchestra.codecs.openai.dialect import OpenAiDialect
        from orchestra.codecs.openai.quirks import PRESETS

        del options
        return OpenAiDialect(PRESETS[name])

    return make


def azure(options: Options) -> Dialect:
    """OpenAI's, with Azure's paths; the classic ones where there is an `api_version`."""
    from orchestra.codecs.openai.azure import AzureDialect

    return AzureDialect(options.get("deployment"), options.get("api_version"))


def anthropic(options: Options) -> Dialect:
    """Anthropic's messages, which always ask for a number of tokens: by default all there are."""
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
    """Bedrock's InvokeModel, which speaks each model's own dialect."""
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
    """Of Bedrock's embedding models Cohere's take several texts in a call, the others one."""
    return 96 if "cohere" in f"{options['model']} {options.get('family', '')}" else 1
