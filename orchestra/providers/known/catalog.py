"""The catalog of providers: all that is known about each, in one row.

A dialect is imported when a model that needs it is first used. `orchestra.providers.endpoints`
makes endpoints from these entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from orchestra.providers.known import dialects, urls
from orchestra.providers.known.provider import AwsScheme, HeaderScheme, Option, Provider, Seam

_KEY_HEADER = Option(
    name="key_header",
    about="the header for the key; in `authorization`, the key is sent as a Bearer token",
    needed=False,
)
ONLY_MODELS: tuple[Seam, ...] = ("model",)
_REGION = Option(
    name="region",
    about="the AWS region, such as `eu-central-1`",
    env=("AWS_REGION", "AWS_DEFAULT_REGION"),
)


def _openai_like(
    name: str,
    about: str,
    url: str | None,
    *env: str,
    embeds: bool = False,
    keyless: bool = False,
    suggested: tuple[str, str] | None = None,
    base_url_env: tuple[str, ...] = (),
    options: tuple[Option, ...] = (),
    files: bool = False,
    reranks: bool = False,
    listed_as: str | None = None,
) -> Provider:
    """The entry of a provider that speaks OpenAI's dialect."""
    return Provider(
        name=name,
        about=about,
        dialect=dialects.openai(name),
        seams=("model", "embedder") if embeds else ONLY_MODELS,
        base_url=urls.fixed(url) if url else None,
        base_url_env=base_url_env,
        scheme=HeaderScheme(env=env, prefix="Bearer ", needed=not keyless),
        options=options,
        suggested=suggested,
        files=files,
        reranks=reranks,
        listed_as=listed_as,
    )


_ROWS = (
    _openai_like(
        "openai",
        "OpenAI",
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        embeds=True,
        suggested=("gpt-5.4-mini", "gpt-5.4"),
        base_url_env=("OPENAI_BASE_URL",),
        files=True,
        listed_as="openai",
    ),
    Provider(
        name="anthropic",
        about="Anthropic",
        dialect=dialects.anthropic,
        seams=ONLY_MODELS,
        base_url=urls.fixed("https://api.anthropic.com/v1"),
        base_url_env=("ANTHROPIC_BASE_URL",),
        read_base_url=urls.anthropic,
        scheme=HeaderScheme(env=("ANTHROPIC_API_KEY",), header="x-api-key"),
        suggested=("claude-haiku-4-5", "claude-sonnet-5"),
        files=True,
        listed_as="anthropic",
    ),
    Provider(
        name="gemini",
        about="Google AI Studio",
        dialect=dialects.gemini,
        base_url=urls.gemini,
        scheme=HeaderScheme(env=("GEMINI_API_KEY", "GOOGLE_API_KEY"), header="x-goog-api-key"),
        options=(
            Option(
                name="api_version",
                about="the version of the API, `v1beta` by default",
                default="v1beta",
            ),
        ),
        suggested=("gemini-flash-latest", "gemini-pro-latest"),
        files=True,
        listed_as="google",
    ),
    Provider(
        name="azure",
        about="Azure OpenAI",
        dialect=dialects.azure,
        base_url=urls.azure,
        base_url_env=("AZURE_OPENAI_ENDPOINT",),
        read_base_url=urls.azure_endpoint,
        scheme=HeaderScheme(env=("AZURE_OPENAI_API_KEY",), header="api-key"),
        options=(
            Option(
                name="resource",
                about="the first part of the host name, needed unless `base_url` is set",
                needed=False,
            ),
            Option(name="deployment", about="the deployment, by default `model`", needed=False),
            Option(
                name="api_version",
                about="the version of the classic API, such as `2024-10-21`; by default, the `v1` "
                "API is used",
                needed=False,
            ),
            _KEY_HEADER,
        ),
        suggested=("gpt-5.4-mini", "gpt-5.4"),
        listed_as="azure",
    ),
    _openai_like(
        "mistral",
        "Mistral",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        embeds=True,
        suggested=("mistral-small-latest", "mistral-large-latest"),
        listed_as="mistral",
    ),
    Provider(
        name="cohere",
        about="Cohere",
        dialect=dialects.cohere,
        base_url=urls.fixed("https://api.cohere.com/v2"),
        scheme=HeaderScheme(env=("COHERE_API_KEY", "CO_API_KEY"), prefix="Bearer "),
        suggested=("command-r7b-12-2024", "command-a-03-2025"),
        reranks=True,
        bills_searches=True,
        listed_as="cohere",
    ),
    _openai_like(
        "groq",
        "Groq",
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        suggested=("openai/gpt-oss-20b", "openai/gpt-oss-120b"),
        listed_as="groq",
    ),
    _openai_like(
        "deepseek",
        "DeepSeek",
        "https://api.deepseek.com/v1",
        "DEEPSEEK_API_KEY",
        suggested=("deepseek-v4-flash", "deepseek-v4-pro"),
        listed_as="deepseek",
    ),
    _openai_like(
        "xai",
        "xAI",
        "https://api.x.ai/v1",
        "XAI_API_KEY",
        suggested=("grok-4.3", "grok-4.7"),
        listed_as="x-ai",
    ),
    _openai_like(
        "together",
        "Together",
        "https://api.together.xyz/v1",
        "TOGETHER_API_KEY",
        embeds=True,
        suggested=("Qwen/Qwen3.5-9B", "openai/gpt-oss-120b"),
        reranks=True,
        listed_as="together",
    ),
    _openai_like(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        embeds=True,
        suggested=("openrouter/auto", "openrouter/auto"),
        files=True,
        listed_as="openrouter",
    ),
    Provider(
        name="bedrock",
        about="AWS Bedrock, by Converse; embeddings by InvokeModel",
        dialect=dialects.bedrock,
        base_url=urls.bedrock,
        scheme=AwsScheme(),
        options=(_REGION,),
        suggested=("global.amazon.nova-2-lite-v1:0", "global.anthropic.claude-sonnet-4-6"),
        files=True,
        reranks=True,
        bills_searches=True,
        listed_as="aws",
    ),
    Provider(
        name="bedrock-invoke",
        about="AWS Bedrock, by InvokeModel in each model's own format",
        dialect=dialects.bedrock_invoke,
        base_url=urls.bedrock,
        scheme=AwsScheme(),
        options=(
            _REGION,
            Option(
                name="family",
                about="the family whose format to use, such as `meta.llama3`, if the model's id "
                "does not tell",
                needed=False,
            ),
        ),
        extras="bedrock",
        files=True,
        reranks=True,
        bills_searches=True,
        listed_as="aws",
    ),
    Provider(
        name="vertex",
        about="Google Vertex AI",
        dialect=dialects.vertex,
        base_url=urls.vertex,
        scheme=HeaderScheme(
            env=("VERTEX_ACCESS_TOKEN", "GOOGLE_OAUTH_ACCESS_TOKEN"), prefix="Bearer "
        ),
        options=(
            Option(
                name="project",
                about="the Google Cloud project",
                env=("GOOGLE_CLOUD_PROJECT",),
            ),
            Option(
                name="location",
                about="such as `europe-west4`; `global` by default",
                env=("GOOGLE_CLOUD_LOCATION",),
                default="global",
            ),
        ),
        extras="gemini",
        files=True,
        listed_as="google",
    ),
    Provider(
        name="ollama",
        about="Ollama",
        dialect=dialects.ollama,
        base_url=urls.fixed("http://localhost:11434/api"),
        base_url_env=("OLLAMA_HOST",),
        read_base_url=urls.ollama_host,
        scheme=HeaderScheme(env=("OLLAMA_API_KEY",), prefix="Bearer ", needed=False),
        suggested=("llama3.2", "llama3.2"),
        free=True,
    ),
    _openai_like(
        "perplexity",
        "Perplexity",
        "https://api.perplexity.ai",
        "PERPLEXITY_API_KEY",
        embeds=True,
        listed_as="perplexity",
    ),
    _openai_like(
        "fireworks",
        "Fireworks",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        embeds=True,
        reranks=True,
        listed_as="fireworks",
    ),
    _openai_like(
        "cerebras",
        "Cerebras",
        "https://api.cerebras.ai/v1",
        "CEREBRAS_API_KEY",
        listed_as="cerebras",
    ),
    _openai_like(
        "moonshot",
        "Moonshot",
        "https://api.moonshot.ai/v1",
        "MOONSHOT_API_KEY",
        listed_as="moonshotai",
    ),
    _openai_like(
        "alibaba",
        "Alibaba Cloud Model Studio in Singapore; for other regions, set `base_url`",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
        embeds=True,
    ),
    _openai_like(
        "huggingface",
        "Hugging Face Inference Providers",
        "https://router.huggingface.co/v1",
        "HF_TOKEN",
    ),
    _openai_like(
        "vllm",
        "vLLM",
        "http://localhost:8000/v1",
        embeds=True,
        keyless=True,
        reranks=True,
    ),
    _openai_like(
        "llama-cpp",
        "the server of llama.cpp",
        "http://localhost:8080/v1",
        embeds=True,
        keyless=True,
        reranks=True,
    ),
    _openai_like(
        "tei",
        "Text Embeddings Inference: embeddings and reranking",
        "http://localhost:8080",
        embeds=True,
        keyless=True,
        reranks=True,
    ),
    _openai_like(
        "openai-compatible",
        "any other OpenAI-compatible server",
        None,
        embeds=True,
        keyless=True,
        options=(_KEY_HEADER,),
        files=True,
        reranks=True,
    ),
    Provider(
        name="extractive",
        about="built in: quotes the sources of its prompt; no key, no network",
        seams=ONLY_MODELS,
    ),
    Provider(
        name="wordllama",
        about="built in: embeddings from wordllama's wheel; no key, no network",
        seams=("embedder",),
    ),
)

OWN = Provider(name="class", about="a class of the project's own", seams=())
"""The entry for models with `class` in their tables, which have no provider."""
PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.name: row for row in (*_ROWS, OWN)})
"""All providers by name, in the order in which the environment is searched for their keys."""
