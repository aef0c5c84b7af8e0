"""The configured models as text for people, and as JSON. Pure; shows names of keys, never keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from orchestra.cli.terminal import table
from orchestra.config.deployment.deployment import Deployment
from orchestra.policies.routing import FALLBACK, By
from orchestra.providers.known.addresses import capabilities, misread, shown_url, unset
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.facts import known
from orchestra.providers.known.keys import KeyState, key_state
from orchestra.providers.known.settings import EmbedderSettings, ModelSettings, RouteSettings
from orchestra.values import Capabilities

Environ = Mapping[str, str]
Row = tuple[str, ...]

_ABILITIES = ("tools", "vision", "files", "json_schema", "reasoning", "embeddings", "reranking")


def as_text(deployment: Deployment, environ: Environ, width: int | None = None) -> str:
    """Tables of the models, routes and embedders, and the configuration's path; as `table`."""
    where = f"configured in {deployment.file}" if deployment.file else "no configuration file"
    rows: list[Row] = [("NAME", "PROVIDER", "MODEL", "ADDRESS", "KEY", "CAN")]
    rows += [
        (*_model_row(name, each.name, each, environ), _abilities_text(capabilities(each)))
        for name, each in deployment.models.items()
    ]
    routes: list[Row] = [("ROUTE", "BY", "MODELS", "FALLBACK")]
    routes += [_route_row(name, each) for name, each in deployment.routes.items()]
    vectors: list[Row] = [("EMBEDDER", "PROVIDER", "MODEL", "ADDRESS", "KEY", "NUMBERS")]
    vectors += [_embedder_row(name, each, environ) for name, each in deployment.embedders.items()]
    listed = [rows, *([routes] if deployment.routes else []), vectors]
    tables = (table(each, width) for each in listed)
    return "\n\n".join(
        (where, *tables, *misread_in(deployment, environ), *unset_in(deployment, environ))
    )


def misread_in(deployment: Deployment, environ: Environ) -> list[str]:
    """The errors in addresses from the environment, each once."""
    return [*filter(None, dict.fromkeys(misread(each, environ) for each in _reached(deployment)))]


def unset_in(deployment: Deployment, environ: Environ) -> list[str]:
    """What models and embedders need to be reached and do not have, each once."""
    return [*filter(None, dict.fromkeys(unset(each, environ) for each in _reached(deployment)))]


def _reached(deployment: Deployment) -> tuple[ModelSettings, ...]:
    return (*deployment.models.values(), *(each.model for each in deployment.embedders.values()))


def as_json(deployment: Deployment, environ: Environ) -> dict[str, Any]:
    """The whole configuration; only the names of headers and extras, as values may be private."""
    return {
        "file": str(deployment.file) if deployment.file else None,
        "data": str(deployment.data) if deployment.data else None,
        "models": [_model(name, each, environ) for name, each in deployment.models.items()],
        "routes": [_route(name, each) for name, each in deployment.routes.items()],
        "embedders": [
            {
                **_model(name, each.model, environ),
                "route": each.route and each.route.name,
                "dimensions": _dimensions(each),
                "from": each.origin,
            }
            for name, each in deployment.embedders.items()
        ],
    }


def _model(name: str, each: ModelSettings, environ: Environ) -> dict[str, Any]:
    key = key_state(each, environ)
    built_in = PROVIDERS[each.provider].built_in
    return {
        "name": name,
        "provider": each.provider,
        "model": each.model,
        "base_url": shown_url(each, environ) or None,
        "options": dict(each.options),
        "key": {"needed": key.needed, "present": key.present, "source": key.source or None},
        "capabilities": attrs.asdict(capabilities(each)),
        "timeouts": attrs.asdict(each.timeouts),
        "limits": None if built_in else attrs.asdict(each.limits),
        "breaker": attrs.asdict(each.breaker) if each.breaker and not built_in else None,
        "prices": attrs.asdict(each.prices),
        "cache": attrs.asdict(each.cache) if each.cache else None,
        "headers": sorted(each.headers),
        "extras": sorted(each.extras),
        "from": each.origin,
    }


def _route(name: str, each: RouteSettings) -> dict[str, Any]:
    return {
        "name": name,
        "by": _rule(each.by),
        "sticky": getattr(each.by, "sticky", False),
        "models": list(each.models),
        "weights": dict(each.weights),
        "fallback": [kind.__name__ for kind in each.falls_back_on],
        "cache": attrs.asdict(each.cache) if each.cache else None,
        "from": each.origin,
    }


def _route_row(name: str, each: RouteSettings) -> Row:
    called = name if name == each.name else f"{name} (= {each.name})"
    models = (
        f"{model} x{each.weights[model]:g}" if model in each.weights else model
        for model in each.models
    )
    usual = {(): "none", FALLBACK: "usual"}
    chosen = ", ".join(kind.__name__ for kind in each.falls_back_on)
    sticky = ", sticky" if getattr(each.by, "sticky", False) else ""
    fallback = usual.get(each.falls_back_on, chosen)
    return called, f"{_rule(each.by)}{sticky}", ", ".join(models), fallback


def _rule(by: By) -> str:
    """A rule as written in the file: `order`, `cost`, `weight`, `latency`."""
    return type(by).__name__.removeprefix("By").lower()


def _dimensions(each: EmbedderSettings) -> int | None:
    if each.model.provider == "wordllama":
        from orchestra.providers.wordllama import DIMENSIONS

        return DIMENSIONS
    return each.dimensions or (None if each.model.own else known(each.model.model).dimensions)


def _embedder_row(name: str, each: EmbedderSettings, environ: Environ) -> Row:
    dimensions = str(_dimensions(each) or "?")
    if each.route is not None:
        return name, "a route", each.route.name, "-", "-", dimensions
    return (*_model_row(name, each.name, each.model, environ), dimensions)


def _model_row(name: str, own: str, each: ModelSettings, environ: Environ) -> Row:
    key = key_state(each, environ)
    called = name if name == own else f"{name} (= {own})"
    return called, each.provider, each.model or "-", shown_url(each, environ) or "-", _key(key)


def _key(key: KeyState) -> str:
    if key.present:
        return key.source
    return f"MISSING: {key.source}" if key.needed else "none needed"


def _abilities_text(able: Capabilities) -> str:
    """A model's known capabilities in short: `400k tokens, tools, vision`."""
    context = [f"{_short_count(able.context_tokens)} tokens"] if able.context_tokens else []
    abilities = [name for name in _ABILITIES if getattr(able, name)]
    return ", ".join((*context, *abilities)) or "-"


def _short_count(count: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)
