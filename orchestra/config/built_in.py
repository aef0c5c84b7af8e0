"""The names that a deployment has without a configuration file and without a key. Pure.

This file imports nothing about providers: that takes a tenth of the start-up time, and is rarely
needed when nothing is configured. A test compares the names with those that `from_environment`
finds.
"""

from __future__ import annotations

from collections.abc import Mapping

MODELS = ("default", "fast", "smart")
"""The names of models that every deployment has: those that steps and examples use."""
EMBEDDERS = ("default",)
PROVIDER_VARIABLES = frozenset(
    (
        *("ANTHROPIC_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK"),
        *("AZURE_OPENAI_API_KEY", "COHERE_API_KEY", "CO_API_KEY", "DEEPSEEK_API_KEY"),
        *("GEMINI_API_KEY", "GOOGLE_API_KEY", "GROQ_API_KEY", "MISTRAL_API_KEY", "OLLAMA_API_KEY"),
        *("OLLAMA_HOST", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "TOGETHER_API_KEY", "XAI_API_KEY"),
    )
)
"""Environment variables: if none is set, no provider's models are added automatically."""


def only_built_in(environ: Mapping[str, str]) -> bool:
    """Whether only the built-in names exist: no variable in the environment can add a model."""
    return PROVIDER_VARIABLES.isdisjoint(environ)
