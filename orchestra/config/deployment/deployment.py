"""A deployment: its models, embedders and stores as values, wherever they came from. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from orchestra.config.built_in import MODELS
from orchestra.config.deployment.server_rules import USUAL_RULES, ServerRules
from orchestra.config.toml.places import Path as Place
from orchestra.config.toml.places import line_of
from orchestra.providers.known.settings import (
    EmbedderSettings,
    ModelSettings,
    OwnClass,
    RouteSettings,
)
from orchestra.stores.postgres.settings import PostgresSettings
from orchestra.stores.state.settings import StateSettings

if TYPE_CHECKING:
    from orchestra.config.deployment.stores import OwnStore
    from orchestra.policies.limits.allowance import CallerRules
    from orchestra.policies.money.budget import Budgets

BUILT_IN = "built in"

EXTRACTIVE = ModelSettings(name="default", provider="extractive", origin=BUILT_IN)
WORDLLAMA = EmbedderSettings(
    name="default",
    model=ModelSettings(name="default", provider="wordllama", origin=BUILT_IN),
    origin=BUILT_IN,
)


@attrs.frozen(kw_only=True)
class Deployment:
    """The settings of a deployment by name. Several names may share the settings of one model.

    Where a pipeline names a model, it may also name a route: no name is both. `stores` are those
    of the project's own classes; all others are in the `database`, if there is one, else in a file
    in the folder `data` (None is the default folder). `limits` are those of callers, and `budgets`
    what they may spend, None if they are not counted. `state` says where policies keep their state,
    None if it is not configured. `server` has the rules of the server. `file` is the configuration
    file, and `lines` are the lines of its keys.
    """

    models: Mapping[str, ModelSettings]
    embedders: Mapping[str, EmbedderSettings]
    routes: Mapping[str, RouteSettings] = MappingProxyType({})
    stores: Mapping[str, OwnStore] = MappingProxyType({})
    data: Path | None = None
    database: PostgresSettings | None = None
    limits: CallerRules | None = None
    budgets: Budgets | None = None
    file: Path | None = None
    state: StateSettings | None = None
    server: ServerRules = USUAL_RULES
    lines: Mapping[Place, int] = attrs.field(default=MappingProxyType({}), eq=False, repr=False)

    def over_network(self) -> tuple[list[str], list[str]]:
        """The names of models and routes that are reached over a network, and of embedders."""
        from orchestra.providers.known.catalog import PROVIDERS

        models = [name for name, each in self.models.items() if PROVIDERS[each.provider].remote]
        embedders = self.embedders.items()
        remote = [name for name, each in embedders if PROVIDERS[each.model.provider].remote]
        return [*models, *self.routes], remote

    def uses_built_in(self, named: Iterable[tuple[str, str]]) -> bool:
        """Whether one of these names, given as `(kind, name)`, needs the built-in embedder.

        A model also needs it if its cache or its coalescing compares requests with it.
        """
        from orchestra.providers.known.catalog import PROVIDERS

        behind = chain.from_iterable(self._behind(seam, name) for seam, name in named)
        return any(PROVIDERS[each.provider].built_in for each in behind)

    def _behind(self, seam: str, name: str) -> Iterator[ModelSettings]:
        """The models behind a name: its own, or those of a route; and those of their embedders."""
        if seam == "embedder":
            yield self.embedders[name].model
        if seam != "model":
            return
        route = self.routes.get(name)
        models = [self.models[name]] if route is None else [*route.models.values()]
        yield from models
        settings: list[ModelSettings | RouteSettings] = [*models, *filter(None, [route])]
        for each in settings:
            if each.cache is not None and each.cache.semantic is not None:
                yield self.embedders[each.cache.semantic.embedder].model
            if each.coalesce is not None and each.coalesce.similarity is not None:
                yield self.embedders[each.coalesce.embedder].model

    def own_classes(self) -> list[tuple[OwnClass, ModelSettings]]:
        """The models and embedders of the project's own classes, each once, with its class."""
        found = (*self.models.values(), *(each.model for each in self.embedders.values()))
        own = {(each.origin, each.name): (each.own, each) for each in found if each.own is not None}
        return [*own.values()]

    def where(self, *path: str) -> str:
        """`file:line` of a key."""
        return f"{self.file}:{line_of(path, self.lines)}"


def with_usual(
    models: Mapping[str, ModelSettings], routes: Collection[str] = ()
) -> Mapping[str, ModelSettings]:
    """Add the models that every deployment has, unless a route has their name.

    If they are not named, `default` is the first model, and `fast` and `smart` are `default`: a
    file with one model is enough. If `default` is a route, `fast` and `smart` are not added.
    """
    if "default" in routes:
        return MappingProxyType(dict(models))
    found = dict(models)
    found.setdefault("default", next(iter(models.values()), EXTRACTIVE))
    usual = {name: found.get(name, found["default"]) for name in MODELS if name not in routes}
    return MappingProxyType({**usual, **models})


def with_usual_routes(
    routes: Mapping[str, RouteSettings], models: Collection[str]
) -> Mapping[str, RouteSettings]:
    """Add `fast` and `smart` as names of the route `default`, if any, unless they are taken."""
    usual = {
        name: routes["default"] for name in MODELS if "default" in routes and name not in models
    }
    return MappingProxyType({**usual, **routes})


EMBEDDED = Deployment(models=with_usual({}), embedders=MappingProxyType({"default": WORDLLAMA}))
"""The deployment without a file and without a key: all of it runs in this process.

The three models are one, so that a race between two of them runs out of the box.
"""
