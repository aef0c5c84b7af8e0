"""The tables `[models.NAME]` and `[embedders.NAME]` as settings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from orchestra.codecs.reasoning_tags import ReasoningTags
from orchestra.config.tables.caches import cache_of
from orchestra.config.tables.coalescing import read_coalesce
from orchestra.config.tables.headers import check_headers
from orchestra.config.tables.own_classes import read_own_class, refuse_of_providers
from orchestra.config.toml import spec
from orchestra.config.toml.checking import Table, check, missing, without_none
from orchestra.config.toml.complaints import Complaints, nearest, shown
from orchestra.config.toml.places import Path as Place
from orchestra.nearest import nearest_name
from orchestra.policies.health.breaker import BreakerRule
from orchestra.policies.limits.limit import CallLimits
from orchestra.protocols import Timeouts
from orchestra.providers.known.addresses import capabilities
from orchestra.providers.known.catalog import OWN, PROVIDERS
from orchestra.providers.known.provider import Provider, Seam
from orchestra.providers.known.settings import (
    EmbedderSettings,
    ModelSettings,
    Prices,
    RouteSettings,
)
from orchestra.providers.known.urls import absolute
from orchestra.values import Capabilities

PRICE_MIN = 0.001
"""Dollars for a million tokens: a nano-dollar for each. The cheapest models cost more than this."""
SEARCH_PRICE_MIN = 0.02
"""Dollars for a thousand search units; they cost about 2."""
LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrency")
_WORD = re.compile("[a-z0-9]+")
_ARTICLES: Mapping[Seam, str] = {"model": "a model", "embedder": "an embedder"}


def read_models(tables: Table, here: Path, complaints: Complaints) -> dict[str, ModelSettings]:
    """The valid models by name; paths are relative to the folder `here`."""
    found = {
        name: _read_model(table, ("models", name), "model", complaints, here)
        for name, table in tables.items()
    }
    return {name: settings for name, settings in found.items() if settings is not None}


def read_embedders(
    tables: Table,
    models: Mapping[str, ModelSettings],
    routes: Mapping[str, RouteSettings],
    here: Path,
    complaints: Complaints,
) -> dict[str, EmbedderSettings]:
    """The valid embedders by name; an embedder may name a model or a route of the file."""
    found = {}
    for name, table in tables.items():
        at, route = ("embedders", name), None
        if not isinstance(table, dict) or table.keys() & {"provider", "class"}:
            model = _read_model(table, at, "embedder", complaints, here)
        else:
            model, route = _named_model(table, at, models, routes, complaints)
        if model is not None:
            found[name] = EmbedderSettings(
                name=name,
                model=model,
                dimensions=table.get("dimensions"),
                origin=complaints.where(at),
                route=route,
            )
    return found


def _read_model(
    table: object, at: Place, seam: Seam, complaints: Complaints, here: Path
) -> ModelSettings | None:
    extra = {"dimensions": spec.DIMENSIONS} if seam == "embedder" else {}
    before = len(complaints.problems)
    if not isinstance(table, dict):
        complaints.not_a_table(at, table, f"write it as a table: {spec.TABLES[str(at[0])]}")
        return None
    if dotted_names := tuple(_without_quotes(table, at)):
        _tell_quotes(dotted_names, complaints)
        return None
    if "class" in table and "provider" not in table:
        return _read_own(table, at, extra, complaints)
    provider = _provider(table, at, seam, complaints)
    if provider is None:
        known = {**_known(PROVIDERS.values()), **spec.OWN_MODEL, **extra}
        check(_without_provider(table), at, known, complaints)  # as far as possible
        return None
    known = {**_known([provider]), **extra}
    right = check(_own(_without_provider(table), provider, at, complaints), at, known, complaints)
    _complete(right, table, provider, at, complaints)
    right["coalesce"] = read_coalesce(right.get("coalesce"), at, complaints)
    if len(complaints.problems) > before:
        return None
    settings = _settings(right, provider, at, here, complaints.where(at))
    return settings if _fits(settings, at, seam, complaints) else None


def _read_own(
    table: Table, at: Place, extra: spec.Spec, complaints: Complaints
) -> ModelSettings | None:
    """A model or embedder of one of the project's own classes."""
    before, known = len(complaints.problems), {**spec.OWN_MODEL, **extra}
    right = check(refuse_of_providers(table, at, complaints), at, known, complaints)
    own = read_own_class(table, right, at, complaints)
    _check_policies(right, at, complaints)
    coalesce = read_coalesce(right.get("coalesce"), at, complaints)
    if own is None or len(complaints.problems) > before:
        return None
    unbounded = dict.fromkeys((each.name for each in attrs.fields(Timeouts)), spec.NO_LIMIT)
    right |= {"model": own.target, "coalesce": coalesce, "timeouts": unbounded}
    settings = _settings(right, OWN, at, Path(), complaints.where(at))
    return attrs.evolve(settings, own=own)


def _without_quotes(table: Table, at: Place) -> Iterator[Place]:
    """The nested tables that were meant as one name with a dot: `[models.gpt-5.4]`."""
    for key, value in table.items():
        if isinstance(value, dict) and key not in {"options", *spec.REMOTE}:
            if value.keys() & {"provider", "class"}:
                yield (*at, key)
            yield from _without_quotes(value, (*at, key))


def _tell_quotes(paths: Iterable[Place], complaints: Complaints) -> None:
    for kind, *name in paths:
        message = "without quotes, a dot in a name begins a nested table"
        right = f'[{kind}."{".".join(map(str, name))}"]'
        complaints.add("wrong-type", (kind, *name), message, f"write {right}")


def _provider(table: Table, at: Place, seam: Seam, complaints: Complaints) -> Provider | None:
    name = table.get("provider")
    known = [each.name for each in PROVIDERS.values() if seam in each.seams]
    if name is None and (misspelt := _misspelt(table)) is not None:
        fix = "did you mean 'provider'?"
        complaints.add("unknown-key", (*at, misspelt), "there is no such key", fix)
        return None
    if name is None:
        fix = f'add provider = "{known[0]}", or another of: {", ".join(known)}'
        fix += f"; or class = {spec.CLASS_OF_MODEL.example}, for a class of your own"
        complaints.add("missing-key", at, "it has no provider", fix)
        return None
    if isinstance(name, str) and name in known and "class" not in table:
        return PROVIDERS[name]
    place = (*at, "provider")
    if "class" in table:
        message = "a model has a provider or a class of your own, not both"
        complaints.add("wrong-value", (*at, "class"), message, "leave one of the two out")
    elif not isinstance(name, str):
        message = f"{shown(name, 'provider')} is not the name of a provider"
        complaints.add("wrong-value", place, message, f"one of: {', '.join(known)}")
    elif name in PROVIDERS:
        message = f"{shown(name)} cannot be {_ARTICLES[seam]}"
        complaints.add("wrong-provider", place, message, f"one of: {', '.join(known)}")
    else:
        message = f"there is no provider {shown(name)}"
        complaints.add("unknown-provider", place, message, _provider_meant(name, known))
    return None


def _provider_meant(name: str, known: Sequence[str]) -> str:
    """The advice for an unknown provider: those that its words describe, else the nearest."""
    if name.lower() in known:
        return nearest(name, known)
    words = {*_WORD.findall(name.lower())}
    whose = [
        each
        for each in known
        if words and words <= {*_WORD.findall(PROVIDERS[each].about.lower()), *each.split("-")}
    ]
    return f"did you mean {' or '.join(map(repr, whose))}?" if whose else nearest(name, known)


def _without_provider(table: Table) -> dict[str, Any]:
    left_out = "provider" if "provider" in table else _misspelt(table)
    return {key: value for key, value in table.items() if key != left_out}


def _misspelt(table: Table) -> str | None:
    """The key that is probably a misspelt `provider`."""
    return nearest_name("provider", table) or None


def _known(providers: Iterable[Provider]) -> spec.Spec:
    """The keys that a model of one of these providers may have, besides `provider`."""
    found: spec.Spec = {}
    for provider in providers:
        if provider.remote:
            options = dict.fromkeys(_options_of(provider), spec.WORD)
            found = {"model": spec.TEXT, **spec.REMOTE, **found, **options}
    return found


def _own(table: Table, provider: Provider, at: Place, complaints: Complaints) -> Table:
    """The table without keys that only other providers have; a complaint is added for each."""
    right = {}
    for key, value in table.items():
        whose = [each.name for each in PROVIDERS.values() if key in _options_of(each)]
        if whose and provider.name not in whose:
            message = f"provider {provider.name!r} has no such option"
            fix = f"it is an option of {', '.join(whose)}"
            complaints.add("unknown-key", (*at, key), message, fix)
        elif not provider.remote and key in {"model", *spec.REMOTE}:
            message = f"provider {provider.name!r} is built in, and has no options"
            complaints.add("unknown-key", (*at, key), message, "leave it out")
        else:
            right[key] = value
    return right


def _options_of(provider: Provider) -> list[str]:
    return [option.name for option in provider.options]


def _complete(
    right: Table, table: Table, provider: Provider, at: Place, complaints: Complaints
) -> None:
    """Complain of missing keys, of an API key in two places, and of API keys in headers."""
    if provider.remote and "model" not in table:
        missing("model", spec.TEXT, at, complaints)
    if provider.base_url is None and provider.remote and "base_url" not in table:
        missing("base_url", spec.URL, at, complaints)
    if "key_env" in right and "key_file" in right:
        message = "an API key is either in the environment or in a file"
        complaints.add("wrong-value", (*at, "key_file"), message, "leave one of the two out")
    _check_policies(right, at, complaints)
    check_headers(right.get("headers", {}), (*at, "headers"), complaints)
    if "base_url" in right:
        _check_url(right["base_url"], (*at, "base_url"), complaints)


def _check_url(url: str, at: Place, complaints: Complaints) -> None:
    """Complain of an address with an invalid host or port."""
    try:
        absolute(url)
    except ValueError as error:
        message = f"{shown(url)} is not a valid address: {error}"
        complaints.add("wrong-value", at, message, f"base_url = {spec.URL.example}")
        return
    for path in ("/chat/completions", "/messages", "/embeddings", "/rerank"):
        if url.rstrip("/").endswith(path):
            message = f"it ends in {path}, which orchestra appends to it"
            complaints.add("wrong-value", at, message, f"leave {path} out")


def _check_policies(right: Table, at: Place, complaints: Complaints) -> None:
    _complete_limits(right.get("limits", {}), (*at, "limits"), complaints)
    _check_breaker(right.get("breaker", {}), (*at, "breaker"), complaints)
    _check_prices(right.get("prices", {}), (*at, "prices"), complaints)


def _check_prices(prices: Table, at: Place, complaints: Complaints) -> None:
    """Complain of prices that are so low that they must be for one token."""
    for key, price in prices.items():
        if key == "search" and 0 < price < SEARCH_PRICE_MIN:
            message = f"{price:g} is a price for one search, and this is for a thousand"
            complaints.add("wrong-value", (*at, key), message, f"{key} = {price * 1_000:g}")
        elif key != "search" and 0 < price < PRICE_MIN:
            message = f"{price:g} is a price for one token, and prices are for a million tokens"
            complaints.add("wrong-value", (*at, key), message, f"{key} = {price * 1_000_000:g}")


def _check_breaker(breaker: Table, at: Place, complaints: Complaints) -> None:
    """Complain of a first pause that would be cut to the longest one."""
    rule = _breaker(without_none(breaker))
    if rule is not None and rule.open_s > rule.open_max_s:
        key = "open_max_s" if "open_max_s" in breaker else "open_s"
        message = f"the first pause is {rule.open_s:g} s, and the longest only {rule.open_max_s:g}"
        fix = f"open_max_s = {rule.open_s:g}, or a shorter open_s"
        complaints.add("wrong-value", (*at, key), message, fix)


def _complete_limits(limits: Table, at: Place, complaints: Complaints) -> None:
    """Complain of options of limits that have no effect without another."""
    if limits.get("adaptive") and "concurrency" not in limits:
        message = "it has nothing to adapt: there is no concurrency"
        complaints.add("missing-key", (*at, "adaptive"), message, "add concurrency = 20")
    if "burst_share" in limits and not any(name in limits for name in LIMITS[:2]):
        message = "it is a share of limits per minute, and there is none"
        complaints.add(
            "missing-key", (*at, "burst_share"), message, "add requests_per_minute = 500"
        )
    if limits.get("shared") and not any(name in limits for name in LIMITS):
        message = "it has nothing to share: there is no limit"
        complaints.add("missing-key", (*at, "shared"), message, "add requests_per_minute = 500")
    if "when_state_fails" in limits and not limits.get("shared"):
        message = "only shared limits are kept in the state"
        complaints.add("missing-key", (*at, "when_state_fails"), message, "add shared = true")


def _settings(
    right: Table, provider: Provider, at: Place, here: Path, origin: str
) -> ModelSettings:
    key_file = right.get("key_file")
    as_it_is = ("model", "base_url", "key_env", "headers", "extras", "prompt_cache")
    return ModelSettings(
        name=str(at[-1]),
        provider=provider.name,
        **{key: right[key] for key in as_it_is if key in right},
        reasoning_tags=ReasoningTags(*right["reasoning_tags"])
        if "reasoning_tags" in right
        else None,
        options={name: right[name] for name in _options_of(provider) if name in right},
        key_file=here / key_file if key_file else None,
        timeouts=Timeouts(**without_none(right.get("timeouts", {}))),
        limits=CallLimits(**without_none(right.get("limits", {}))),
        breaker=_breaker(without_none(right.get("breaker", {}))),
        prices=Prices(**right.get("prices", {})),
        capabilities=Capabilities(**right.get("capabilities", {})),
        coalesce=right["coalesce"],
        cache=cache_of(right),
        origin=origin,
    )


def _breaker(table: dict[str, Any]) -> BreakerRule | None:
    return BreakerRule(**table) if table.pop("enabled", True) else None


def _named_model(
    table: Table,
    at: Place,
    models: Mapping[str, ModelSettings],
    routes: Mapping[str, RouteSettings],
    complaints: Complaints,
) -> tuple[ModelSettings | None, RouteSettings | None]:
    """The model that an embedder names, or the first of a route, with it; None, if it is wrong."""
    known = {"model": spec.TEXT, "dimensions": spec.DIMENSIONS}
    remote = _known(PROVIDERS.values())
    for key in table.keys() & (remote.keys() - known.keys()):
        message = "an embedder that names a model of this file has no options of its own"
        complaints.add("unknown-key", (*at, key), message, "write it in the model's table")
    shared = {key: value for key, value in table.items() if key in known or key not in remote}
    right = check(shared, at, known, complaints)
    if "model" not in table:
        fix = 'add model = "NAME", a model or route of this file; or a provider and its model'
        complaints.add("missing-key", at, "it has no model", fix)
    if "model" not in right:
        return None, None
    name, place = right["model"], (*at, "model")
    if name not in models and name not in routes:
        there = [*models, *routes]
        fix = nearest(name, there) if there else "add [models.NAME], or a provider here"
        message = f"this file has no valid model or route {shown(name)}"
        complaints.add("unknown-model", place, message, fix)
        return None, None
    route = routes.get(name)
    named = [models[name]] if route is None else [*route.models.values()]
    fit = all(_fits(each, place, "embedder", complaints) for each in named)
    return (named[0], route) if fit else (None, None)


def _fits(settings: ModelSettings, at: Place, seam: Seam, complaints: Complaints) -> bool:
    """Whether a model fits its seam; if not, add a complaint."""
    if seam == "model":
        return True
    may_embed = settings.own is not None or seam in PROVIDERS[settings.provider].seams
    if may_embed and capabilities(settings).embeddings is not False:
        return True
    message = f"model {shown(settings.model)} of {settings.provider!r} makes no vectors"
    complaints.add("wrong-value", at, message, "name one that does, such as an embedding model")
    return False
