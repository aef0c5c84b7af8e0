"""Constructors for the providers' dialects, which import each dialect on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestra.codecs.dialect import Dialect

Options = Mapping[str, str]
"""The options of a model. `model` is its name at the provider, and `output_tokens_max` is the most
tokens of an answer, if known.
"""

_OUTPUT_TOKENS_MAX = 32_000
"""The default limit for an answer of Claude: about a hundred pages. It does not count towards rate
limits.
"""


def openai(name: str) -> Callable[[Options], Dialect]:
    """OpenAI's chat completions, with the quirks of the provider of this name."""

    def make(_: Options) -> Dialect:
        from orchestra.codecs.openai.dialect import OpenAiDialect
        from orchestra.codecs.openai.quirks import PRESETS

        return OpenAiDialect(PRESETS[name])

    return make


def azure(options: Options) -> Dialect:
    """OpenAI's dialect with Azure's paths: the classic paths if `api_version` is set, else `v1`."""
    from orchestra.codecs.openai.azure import AzureDialect

    return AzureDialect(options.get("deployment"), options.get("api_version"))


def anthropic(options: Options) -> Dialect:
    """Anthropic's Messages, which require a token limit.

    The default is the model's maximum if it is known, but at most 32,000 tokens.
    """
    from orchestra.codecs.anthropic.dialect import AnthropicDialect

    known = options.get("output_tokens_max")
    if known is None:
        return AnthropicDialect()
    most = int(known)
    return AnthropicDialect(output_tokens=min(most, _OUTPUT_TOKENS_MAX), output_tokens_max=most)


def gemini(_: Options) -> Dialect:
    """Gemini's dialect, at AI Studio."""
    from orchestra.codecs.gemini.dialect import GeminiDialect

    return GeminiDialect()


def vertex(_: Options) -> Dialect:
    """Gemini's dialect, at Vertex AI."""
    from orchestra.codecs.gemini.dialect import GeminiDialect

    return GeminiDialect(vertex=True)


def bedrock(options: Options) -> Dialect:
    """Bedrock's Converse API."""
    from orchestra.codecs.bedrock.converse import BedrockDialect

    return BedrockDialect(texts_max=_bedrock_texts_max(options))


def bedrock_invoke(options: Options) -> Dialect:
    """Bedrock's InvokeModel API, with each model family's own format."""
    from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect

    family = options.get("family", "")
    return BedrockInvokeDialect(_bedrock_texts_max(options), family)


def cohere(_: Options) -> Dialect:
    """Cohere's dialect, version 2."""
    from orchestra.codecs.cohere.dialect import CohereDialect

    return CohereDialect()


def ollama(_: Options) -> Dialect:
    """Ollama's own dialect."""
    from orchestra.codecs.ollama.dialect import OllamaDialect

    return OllamaDialect()


def _bedrock_texts_max(options: Options) -> int:
    """The most texts of an embedding call: on Bedrock, only Cohere's models accept several."""
    return 96 if "cohere" in f"{options['model']} {options.get('family', '')}" else 1
