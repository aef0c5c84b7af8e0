"""The key `coalesce` of a model or a route as a rule. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from orchestra.config.toml import spec
from orchestra.config.toml.checking import Table, check
from orchestra.config.toml.complaints import Complaints, nearest, shown
from orchestra.config.toml.places import Path as Place
from orchestra.providers.known.settings import EmbedderSettings

if TYPE_CHECKING:
    from orchestra.policies.flights.coalesce import CoalesceRule


def read_coalesce(value: object, at: Place, complaints: Complaints) -> CoalesceRule | None:
    """The rule of `coalesce`, which is true, false or a table; None if calls are not shared."""
    if value is None or value is False:
        return None
    from orchestra.policies.flights.coalesce import CoalesceRule  # lazy: few models share calls

    if not isinstance(value, Mapping):
        return CoalesceRule()
    at = (*at, "coalesce")
    right = check(value, at, spec.COALESCE, complaints)
    if "embedder" in value and "similarity" not in value:
        message = "the embedder has nothing to compare without similarity"
        complaints.add("missing-key", (*at, "embedder"), message, "add similarity = 0.95")
    return CoalesceRule(**right)


def check_embedders(
    tables: Mapping[str, Table], embedders: Collection[str], complaints: Complaints
) -> None:
    """Complain of embedders that `coalesce` names and that do not exist.

    `embedders` are all embedders of the file, valid or not, and the built-in ones.
    """
    for kind in ("models", "routes"):
        for name, table in tables.get(kind, {}).items():
            value = table.get("coalesce") if isinstance(table, dict) else None
            wanted = value.get("embedder") if isinstance(value, dict) else None
            if isinstance(wanted, str) and wanted and wanted not in embedders:
                place = (kind, name, "coalesce", "embedder")
                message = f"there is no embedder {shown(wanted)}"
                complaints.add("unknown-embedder", place, message, nearest(wanted, embedders))


def check_circles(embedders: Mapping[str, EmbedderSettings], complaints: Complaints) -> None:
    """Complain of embedders whose own model compares its questions with them, if over others."""
    for name in embedders:
        seen: list[str] = []
        then: str | None = name
        while then is not None and then in embedders and then not in seen:
            seen.append(then)
            rule = (embedders[then].route or embedders[then].model).coalesce
            then = rule.embedder if rule is not None and rule.similarity is not None else None
        if then == name:
            message = "its own model compares questions with it, by coalesce.similarity"
            fix = "name another embedder in that coalesce, or leave similarity out"
            complaints.add("wrong-value", ("embedders", name), message, fix)
