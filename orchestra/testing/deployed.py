"""Deployed: scripted models, with the policies of a deployment around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from random import Random
from types import MappingProxyType

from orchestra.config.assembly import Assembly
from orchestra.config.deployment.deployment import Deployment
from orchestra.errors import BindingError
from orchestra.policies.clock import Clock
from orchestra.protocols import Embedder, Model
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.settings import ModelSettings, RouteSettings
from orchestra.providers.wordllama import WordLlamaEmbedder
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.world import StatefulModels

# These are imported lazily by the code that assembles a deployment. Hypothesis gives its first
# example 200 ms, and importing them would take most of that; so they are imported here.
for _late in (
    "policies.caching.cached",
    "policies.caching.similar",
    "policies.flights.coalesced",
    "policies.guard",
    "policies.limits.limited",
    "policies.money.purse",
    "policies.routing",
    "providers.routing",
    "providers.declared",
    "providers.known.prices",
):
    import_module(f"orchestra.{_late}")

NONE: Mapping[str, Embedder] = MappingProxyType({})


class Deployed(StatefulModels):
    """What `deployed` returns: the models of a world by name."""

    def __init__(
        self,
        deployment: Deployment,
        stand_ins: Mapping[str, Model],
        embedders: Mapping[str, Embedder],
        schedule: int,
    ) -> None:
        _refuse_unknown(deployment, stand_ins)
        self.deployment = deployment
        self.stand_ins = stand_ins
        self._clock = Clock()
        state, local = MemoryState(now_s=self._clock.now_s), WordLlamaEmbedder()

        def embedder(name: str) -> Embedder:
            if name in embedders:
                return embedders[name]
            if not PROVIDERS[deployment.embedders[name].model.provider].built_in:
                raise BindingError(
                    f"the embedder {name!r} is reached over a network; pass one in its place: "
                    f"deployed(..., embedders={{{name!r}: ...}})"
                )
            return local

        self._assembly = Assembly(
            deployment,
            {},
            lambda: state,
            embedder,
            local,
            stand_ins=stand_ins,
            draw=Random(schedule).random,  # noqa: S311 - it spreads load; no secret
        )
        known: Mapping[str, ModelSettings | RouteSettings] = {
            **deployment.models,
            **deployment.routes,
        }
        self._models = {
            name: self._assembly.model(settings)
            for name, settings in known.items()
            if all(_is_there(each, stand_ins) for each in _members(settings))
        }

    def update_clocks(self) -> None:
        """Update the clocks of all policies."""
        self._clock.now_s()
        self._assembly.states()

    def __getitem__(self, name: str) -> Model:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def __repr__(self) -> str:
        return f"deployed(<{self.deployment.file}>, {dict(self.stand_ins)!r})"


def deployed(
    deployment: Deployment,
    models: Mapping[str, Model],
    *,
    embedders: Mapping[str, Embedder] = NONE,
    schedule: int = 0,
) -> Deployed:
    """The `models` of a world with a deployment's policies around the scripted `models`.

    Each of `models` is a scripted model under the name of a model of the deployment. Around it
    are the deployment's policies: breaker, limits, budgets, prices, cache, coalescing, and routes.
    A model that is reached over a network or has a class of the project's own is left out if it
    has no scripted model, and so is every route with such a model.

    The state of the policies is in memory and in virtual time, for as long as the result: a
    second run sees the spending of the first, and no time has passed between them. The first run
    begins on 1 January 1970. `schedule` seeds the random choices of routes and breakers.

    `embedders` are used by its caches and coalescing. The deployment's `timeouts` have no effect:
    they apply to connections, which a scripted model does not have.

    Raises:
        BindingError: a name in `models` is not a model of the deployment that needs a stand-in; or
            a policy needs an embedder that is reached over a network.
    """
    return Deployed(deployment, models, embedders, schedule)


def _refuse_unknown(deployment: Deployment, stand_ins: Mapping[str, Model]) -> None:
    known = {
        each.name for each in _all_members(deployment) if not PROVIDERS[each.provider].built_in
    }
    for name in stand_ins:
        if name not in known:
            there = ", ".join(map(repr, sorted(known))) or "none"
            raise BindingError(
                f"deployed(..., {{{name!r}: ...}}): the deployment has no such model, or it is "
                f"built in and needs no stand-in; write one of: {there}"
            )


def _all_members(deployment: Deployment) -> Iterator[ModelSettings]:
    yield from deployment.models.values()
    for route in deployment.routes.values():
        yield from route.models.values()


def _members(settings: ModelSettings | RouteSettings) -> Iterable[ModelSettings]:
    return settings.models.values() if isinstance(settings, RouteSettings) else (settings,)


def _is_there(settings: ModelSettings, stand_ins: Mapping[str, Model]) -> bool:
    return settings.name in stand_ins or PROVIDERS[settings.provider].built_in
