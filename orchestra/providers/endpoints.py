"""Makes endpoints from a model's settings, its provider's catalog entry and the environment."""

from __future__ import annotations

from orchestra.errors import BindingError
from orchestra.providers.credentials import credentials
from orchestra.providers.known.addresses import address, capabilities
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.keys import Environ
from orchestra.providers.known.settings import ModelSettings
from orchestra.providers.remote import Endpoint


def endpoint(settings: ModelSettings, environ: Environ) -> Endpoint:
    """The endpoint of a model.

    Raises:
        BindingError: the model has no endpoint, or its key, its address or a required option is
            missing; the message says which, and where it was expected.
    """
    provider = PROVIDERS[settings.provider]
    if provider.dialect is None:
        raise BindingError(f"model {settings.name!r} runs in this process and has no endpoint")
    options, base_url = address(settings, environ)
    known = capabilities(settings)
    for_dialect = {**options, "model": settings.model}
    if known.output_tokens_max is not None:
        for_dialect["output_tokens_max"] = str(known.output_tokens_max)
    return Endpoint(
        provider=provider.name,
        model=settings.model,
        base_url=base_url,
        dialect=provider.dialect(for_dialect),
        credentials=credentials(settings, options, environ),
        timeouts=settings.timeouts,
        headers=tuple(settings.headers.items()),
        capabilities=known,
        extras={provider.extras: settings.extras} if settings.extras else {},
        prompt_cache=settings.prompt_cache,
        reasoning_tags=settings.reasoning_tags,
    )
