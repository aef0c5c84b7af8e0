"""The tables `cache = { ... }` of models and routes as rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestra.config.toml.checking import Table
from orchestra.config.toml.complaints import Complaints, nearest, shown
from orchestra.policies.caching.cache import CacheRule, SemanticRule
from orchestra.providers.known.addresses import capabilities
from orchestra.providers.known.settings import ModelSettings, RouteSettings


def cache_of(right: Table) -> CacheRule | None:
    """The cache rule in the checked table of a model or route; None without a cache."""
    table = right.get("cache")
    if table is None:
        return None
    semantic = table.get("semantic")
    rule = None if semantic is None else SemanticRule(**semantic)
    return CacheRule(**{**table, "semantic": rule})


def check_semantics(
    tables: Mapping[str, Mapping[str, ModelSettings | RouteSettings]],
    embedders: Iterable[str],
    complaints: Complaints,
) -> None:
    """Complain of semantic caches for embedding models, or with an embedder that does not exist.

    `tables` are models, routes, and embedders with a model of their own, by the name of their
    table; `embedders` are all that the file names, valid or not.
    """
    for table, named in tables.items():
        for name, each in named.items():
            if each.cache is None or each.cache.semantic is None:
                continue
            at, embedder = (table, name, "cache", "semantic"), each.cache.semantic.embedder
            if table == "embedders" or _makes_vectors(each):
                message = "it makes vectors, so it cannot have a semantic cache"
                complaints.add("wrong-value", at, message, "leave semantic out")
            elif embedder not in embedders:
                message = f"there is no embedder {shown(embedder)}"
                complaints.add(
                    "unknown-embedder", (*at, "embedder"), message, nearest(embedder, embedders)
                )


def _makes_vectors(settings: ModelSettings | RouteSettings) -> bool:
    if isinstance(settings, RouteSettings):
        return any(map(_makes_vectors, settings.models.values()))
    return capabilities(settings).embeddings is True
