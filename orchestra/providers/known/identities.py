"""The identity of a configured model, route or embedder: a text that is equal for equal ones. Pure.

It contains the settings that affect answers: provider, model, address, options, headers and extras.
It does not contain keys, limits, timeouts and prices.
"""

from __future__ import annotations

import json

from orchestra.providers.known.addresses import base_url, options_of
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.keys import Environ
from orchestra.providers.known.settings import EmbedderSettings, ModelSettings, RouteSettings


def identity_of(settings: ModelSettings | RouteSettings, environ: Environ) -> str:
    """The identity of a model or route. Hash it, and never show it, since it contains headers.

    Raises:
        BindingError: a model has no address.
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
    """The identity of an embedder. Vectors are comparable only if their identities are equal.

    Raises:
        BindingError: its model has no address.
    """
    return json.dumps([settings.dimensions, _model(settings.model, environ)])


def identity_of_vectors(settings: EmbedderSettings) -> str:
    """The identity of an embedder's vectors, without the address of its model.

    So the documents in a store are not embedded again when a server moves. The address counts only
    if the model has no name.
    """
    model = settings.model
    if model.own is not None:
        return json.dumps([model.provider, model.own.identity, settings.dimensions])
    named = [model.provider, model.model or model.base_url, model.options.get("deployment")]
    extras = json.dumps(model.extras, default=repr, sort_keys=True)  # TOML has dates
    return json.dumps([*named, settings.dimensions, extras])


def _model(settings: ModelSettings, environ: Environ) -> list[object]:
    if settings.own is not None:
        return [settings.provider, settings.own.identity]
    if not PROVIDERS[settings.provider].remote:
        return [settings.provider]
    options = options_of(settings, environ)
    return [
        settings.provider,
        settings.model,
        base_url(settings, options, environ),
        sorted(options.items()),
        sorted(settings.headers.items()),
        json.dumps(settings.extras, default=repr),  # TOML has dates
    ]
