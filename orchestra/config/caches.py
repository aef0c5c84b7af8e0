"""The tables `cache = { ... }` of models and routes as rules. Pure."""

from __future__ import annotations

from orchestra.config.checking import Table
from orchestra.policies.cache import CacheRule


def cache_of(right: Table) -> CacheRule | None:
    """How answers are kept, of the table of a model or route as it was checked; None: not."""
    table = right.get("cache")
    return None if table is None else CacheRule(**table)
