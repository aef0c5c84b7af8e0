"""What a model or route is configured to be, in one text: where two are the same, so is it. Pure.

What decides on an answer is in it: provider, model, address, options, headers and extras. What
does not is left out: keys, limits, times, prices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from orchestra.providers.known.addresses import base_url, options_of
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.settings import EmbedderSettings, ModelSettings, RouteSettings

Environ = Mapping[str, str]


def identity_of(settings: ModelSettings | RouteSettings, environ: Environ) -> str:
    """What this is configured to be; not for people, and to be hashed, since headers are in it.

    Raises:
        BindingError: nothing says where a model is.
    """
    if isinstance(settings, RouteSettings):
        models = [
            (name, settings.weights.get(name, 1.0), _model(each, environ))
            for name, each in settings.models.items()
        ]
        falls_back_on = [kind.__name__ for kind in settings.falls_back_on]
        return json.dumps([settings.name, repr(settings.by), falls_back_on, models])
    return json.dumps([settings.name, _model(settings, environ)])


def identity_of_embedder(settings: EmbedderSettings, environ: Environ) -> str:
    """What an embedder is configured to be: vectors of two that differ cannot be compared.

    Raises:
        BindingError: nothing says where its model is.
    """
    return json.dumps([settings.dimensions, _model(settings.model, environ)])


def identity_of_vectors(settings: EmbedderSettings) -> str:
    """Which vectors an embedder makes: the same at whatever address its model is.

    So what a store holds is not embedded again because a server has moved.
    """
    model = settings.model
    if model.own is not None:
        return json.dumps([model.provider, model.own.identity, settings.dimensions])
    named = [model.provider, model.model or model.base_url, model.options.get("deployment")]
    extras = json.dumps(model.extras, default=repr, sort_keys=True)  # TOML has dates
    return json.dumps([*named, settings.dimensions, extras])


def _model(settings: ModelSettings, environ: Environ) -> list[object]:
    provider = PROVIDERS[settings.provider]
    if settings.own is not None:
        return [settings.provider, settings.own.identity]
    if not provider.remote:
        return [settings.provider]
    options = options_of(provider, settings, environ)
    return [
        settings.provider,
        settings.model,
        base_url(provider, settings, options, environ),
        sorted(options.items()),
        sorted(settings.headers.items()),
        json.dumps(settings.extras, default=repr),  # TOML has dates
    ]
