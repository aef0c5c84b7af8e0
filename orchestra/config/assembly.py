"""Builds the models of a deployment: each provider's model with its policies around it.

The order, from the outside in: cache, coalescing, limits of callers, (a route,) breaker, limits,
budgets, the provider. A model in a route has its own cache and coalescing, but no limits of
callers: an answer of a route counts as one call of its caller. Limits and budgets of callers are
always present, since the key of a caller may have some; they do nothing for other callers.

Rules of the file: each object is made once and kept, as all its users share its state; and its
module is imported only then.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import attrs

from orchestra.closing import Opened
from orchestra.config.lazy_state import lazy_state
from orchestra.errors import BindingError
from orchestra.groups import groupless_nursery
from orchestra.protocols import Embedder, Model, State
from orchestra.providers.known.settings import (
    EmbedderSettings,
    ModelSettings,
    OwnClass,
    RouteSettings,
)

if TYPE_CHECKING:
    from orchestra.config.deployment.deployment import Deployment
    from orchestra.policies.batches import BatchSize
    from orchestra.policies.caching.similar import Similar
    from orchestra.policies.gate import GuardState
    from orchestra.policies.limits.callers import CallerLimits
    from orchestra.policies.limits.shared import SharedLimits
    from orchestra.policies.money.ledger import OnBudget
    from orchestra.policies.money.purse import Purse
    from orchestra.policies.observed import OnCall, Teller
    from orchestra.policies.outbox import Outbox
    from orchestra.providers.network import HttpTransport

MARGIN_S = 60.0
"""How much longer than its timeout a call may hold money."""


class Assembly:
    """The models of a deployment, made on demand, with their policies around them.

    `state` and `embedder` are called when they are first needed; `budget_state` gives the state
    for spending, by default that of `state`. `opened` owns and closes what this opens. `on_call`
    gives what is called after each call of a remote model, None if nothing is. `on_budget` is
    called when a budget reaches a threshold or refuses a call. `stand_ins` replace remote models by
    name, so that no key, address or network is needed; the policies remain. `draw` gives random
    numbers in [0, 1), for routes and the pauses of breakers.
    """

    def __init__(
        self,
        deployment: Deployment,
        environ: Mapping[str, str],
        state: Callable[[], State],
        embedder: Callable[[str], Embedder],
        local: Embedder,
        *,
        budget_state: Callable[[], State] | None = None,
        opened: Opened | None = None,
        on_call: Callable[[], OnCall | None] | None = None,
        on_budget: OnBudget | None = None,
        stand_ins: Mapping[str, Model] | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._deployment = deployment
        self._environ = environ
        self._state = state
        self._budget_state = budget_state or state
        self._embedder = embedder
        self._local = local
        self._opened = opened or Opened()
        self._on_call = on_call
        self._on_budget = on_budget
        self._stand_ins = stand_ins
        self._draw = draw
        self._guarded: dict[str, Model] = {}
        self._routed: dict[str, Model] = {}
        self._limited: dict[Model, Model] = {}
        self._surrounded: dict[Model, Model] = {}
        self._own: dict[str, Any] = {}
        self._outboxes: list[Outbox[Any]] = []

    def model(self, settings: ModelSettings | RouteSettings) -> Model:
        """The model or route as pipelines get it, with all its policies."""
        if isinstance(settings, RouteSettings):
            limited = self._for_callers(self._route(settings), settings.models.values())
        else:
            limited = self._for_callers(self._guard(settings), [settings])
        return self._surround(limited, settings)

    def embedder(self, settings: EmbedderSettings) -> Embedder:
        """The embedder of these settings: a remote model, an own class, or the built-in one."""
        from orchestra.providers.known.catalog import PROVIDERS

        if PROVIDERS[settings.model.provider].built_in:
            return self._local
        from orchestra.providers.embedding import RemoteEmbedder
        from orchestra.providers.known.facts import known
        from orchestra.providers.known.identities import identity_of_vectors

        model, wanted = self.model(settings.route or settings.model), settings.dimensions
        if settings.model.own is not None:
            made = self._own[_key(settings.model)]
            length = wanted or getattr(made, "dimensions", None)
            identity = getattr(made, "identity", "") or identity_of_vectors(settings)
            return RemoteEmbedder(model, settings.name, length, identity=identity)
        facts = known(settings.model.model)
        return RemoteEmbedder(
            model,
            settings.name,
            wanted or facts.dimensions,
            shortens=facts.shortens and wanted not in (None, facts.dimensions),
            identity=identity_of_vectors(settings),
        )

    def states(self) -> Mapping[str, GuardState]:
        """The breaker and the load of each guarded model made so far, by its name."""
        from orchestra.policies.guard import GuardedModel

        guarded = (each for each in self._guarded.values() if isinstance(each, GuardedModel))
        return {each.name: each.state() for each in guarded}

    @cached_property
    def purse(self) -> Purse:
        """The purse that charges all models' calls; without `[budgets]`, only to keys' budgets."""
        from orchestra.policies.money.budget import NO_BUDGETS
        from orchestra.policies.money.purse import Purse

        budgets, state = self._deployment.budgets, self._budget_state
        kept = lazy_state(state) if budgets is None else state()
        made = Purse(budgets or NO_BUDGETS, kept, self._on_budget)
        self._outboxes.append(made.outbox)
        return made

    @cached_property
    def limits(self) -> CallerLimits:
        """The limits of callers, and of their keys, on all models."""
        from orchestra.policies.limits.allowance import CallerRules
        from orchestra.policies.limits.callers import CallerLimits

        rules = self._deployment.limits
        state = lazy_state(self._state) if rules is None else self._state()
        made = CallerLimits(rules or CallerRules(), state)
        self._outboxes.append(made.outbox)
        return made

    async def flush(self, within_s: float) -> None:
        """Write the results of calls that ended while their budgets' or limits' state was down.

        Like `Outbox.flush`, for all of them at once.
        """
        async with groupless_nursery() as nursery:
            for each in self._outboxes:
                nursery.start_soon(each.flush, within_s)

    @property
    def caller_calls_waiting(self) -> int:
        """How many calls wait for the limits of callers now."""
        return self.limits.waiting if "limits" in vars(self) else 0

    def _surround(self, model: Model, settings: ModelSettings | RouteSettings) -> Model:
        """The model behind its cache and coalescing, if it has them."""
        if settings.cache is None and settings.coalesce is None:
            return model
        if model not in self._surrounded:
            self._surrounded[model] = self._cached(self._coalesced(model, settings), settings)
        return self._surrounded[model]

    def _cached(self, model: Model, settings: ModelSettings | RouteSettings) -> Model:
        rule = settings.cache
        if rule is None:
            return model
        from orchestra.policies.caching.cached import CachedModel

        return CachedModel(
            model,
            self._state(),
            rule,
            name=settings.name,
            identity=self._identity(settings),
            similar=self._similar(settings),
        )

    def _identity(self, settings: ModelSettings | RouteSettings) -> str:
        if self._stand_ins is not None:  # stand-ins have no address to include
            return settings.name
        from orchestra.providers.known.identities import identity_of

        return identity_of(settings, self._environ)

    def _similar(self, settings: ModelSettings | RouteSettings) -> Similar | None:
        rule = settings.cache.semantic if settings.cache is not None else None
        if rule is None:
            return None
        from orchestra.policies.caching.similar import Similar
        from orchestra.providers.known.identities import identity_of_embedder

        identity = rule.embedder
        if self._stand_ins is None:
            found = self._deployment.embedders[rule.embedder]
            identity = identity_of_embedder(found, self._environ)
        return Similar(rule, lambda: self._embedder(rule.embedder), identity)

    def _coalesced(self, model: Model, settings: ModelSettings | RouteSettings) -> Model:
        rule = settings.coalesce
        if rule is None:
            return model
        from orchestra.policies.flights.coalesced import CoalescedModel

        embedder = None if rule.similarity is None else self._embedder(rule.embedder)
        return CoalescedModel(model, name=settings.name, rule=rule, embedder=embedder)

    def _for_callers(self, model: Model, settings: Iterable[ModelSettings]) -> Model:
        """The model or route, behind the limits of each caller."""
        from orchestra.policies.limits.limited import CallerLimitedModel, lease_s

        if model not in self._limited:
            bounds = [(each.timeouts.total_s, each.limits.wait_max_s) for each in settings]
            self._limited[model] = CallerLimitedModel(model, self.limits, lease_s=lease_s(bounds))
        return self._limited[model]

    def _route(self, settings: RouteSettings) -> Model:
        from orchestra.policies.routing import Route
        from orchestra.providers.known.addresses import candidate
        from orchestra.providers.routing import RoutedModel

        if settings.name not in self._routed:
            members = self._members(settings)
            candidates = tuple(
                attrs.evolve(found, capabilities=members[name].capabilities) if each.own else found
                for name, each in settings.models.items()
                for found in [candidate(name, each, settings.weights.get(name, 1.0))]
            )
            route = Route(
                name=settings.name,
                candidates=candidates,
                by=settings.by,
                falls_back_on=settings.falls_back_on,
            )
            self._routed[settings.name] = RoutedModel(route, members, self._draw)
        return self._routed[settings.name]

    def _members(self, settings: RouteSettings) -> dict[str, Model]:
        """The models of a route by name; one whose key is missing is made when it is called.

        Raises:
            BindingError: the keys of all are missing; or a model cannot be made for other reasons.
        """
        members, missing = dict[str, Model](), list[BindingError]()
        for name, each in settings.models.items():
            make = partial(self._member, each)
            try:
                members[name] = make()
            except BindingError as error:
                if each.own is not None or self._stand_ins is not None:
                    raise
                from orchestra.providers.known.addresses import capabilities
                from orchestra.providers.unready import UnreadyModel

                missing.append(error)
                members[name] = UnreadyModel(make, name, capabilities(each))
        if len(missing) == len(members):
            raise missing[0]
        return members

    def _member(self, settings: ModelSettings) -> Model:
        return self._surround(self._guard(settings), settings)

    def _guard(self, settings: ModelSettings) -> Model:
        """The model with its guard; the same object for all names of one model."""
        key = _key(settings)
        if key not in self._guarded:
            self._guarded[key] = self._new_guarded(settings)
        return self._guarded[key]

    def _new_guarded(self, settings: ModelSettings) -> Model:
        from orchestra.providers.known.catalog import PROVIDERS

        if PROVIDERS[settings.provider].built_in:
            from orchestra.providers.extractive.model import ExtractiveModel

            return ExtractiveModel(self._local)
        from orchestra.policies.guard import GuardedModel
        from orchestra.policies.money.call_costs import HOLD_S
        from orchestra.providers.known.prices import price_of

        (reached, batch_size), total_s = self._reached(settings), settings.timeouts.total_s
        return GuardedModel(
            reached,
            name=settings.name,
            breaker=settings.breaker,
            limits=settings.limits,
            batch_size=batch_size,
            price=price_of(settings),
            purse=self.purse,
            hold_s=HOLD_S if total_s is None else total_s + MARGIN_S,
            draw=self._draw,
            shared=self._shared_limits(settings),
            teller=self._teller(settings),
        )

    def _reached(self, settings: ModelSettings) -> tuple[Model, BatchSize | None]:
        """The model without its policies, and how many texts it embeds in one request."""
        if self._stand_ins is None and settings.own is not None:
            return self._own_model(settings, settings.own), None
        if self._stand_ins is None:
            from orchestra.providers.endpoints import endpoint
            from orchestra.providers.remote import RemoteModel, batch_size

            made = endpoint(settings, self._environ)
            return RemoteModel(made, self._transport), batch_size(made.dialect)
        if settings.name not in self._stand_ins:
            raise BindingError(f"the model {settings.name!r} has no stand-in")
        from orchestra.providers.declared import DeclaredModel
        from orchestra.providers.known.addresses import capabilities

        return DeclaredModel(self._stand_ins[settings.name], capabilities(settings)), None

    def _own_model(self, settings: ModelSettings, own: OwnClass) -> Model:
        """A model of one of the project's own classes, which declares its own capabilities."""
        from orchestra.config.deployment.own_classes import make_own
        from orchestra.providers.declared import DeclaredModel
        from orchestra.providers.embedding import EmbedderModel
        from orchestra.providers.known.addresses import corrected

        made = self._opened.own(make_own(own, settings.name, settings.origin))
        self._own[_key(settings)] = made
        model: Model = EmbedderModel(made) if own.seam == "embedder" else made
        return DeclaredModel(model, corrected(model.capabilities, settings.capabilities))

    def _teller(self, settings: ModelSettings) -> Teller | None:
        if self._on_call is None:
            return None
        from orchestra.policies.observed import Teller
        from orchestra.providers.known.addresses import place_of

        address, port = place_of(settings, self._environ)
        return Teller(self._on_call, settings.provider, settings.model, address, port)

    def _shared_limits(self, settings: ModelSettings) -> SharedLimits | None:
        """The limits that a model shares with other processes; None if it shares none."""
        if not settings.limits.shared:
            return None
        from orchestra.policies.limits.limited import lease_s
        from orchestra.policies.limits.shared import SharedLimits

        lasts_s = lease_s([(settings.timeouts.total_s, MARGIN_S)])
        made = SharedLimits(settings.name, settings.limits, self._state(), lease_s=lasts_s)
        self._outboxes.append(made.outbox)
        return made

    @cached_property
    def _transport(self) -> HttpTransport:
        """The transport that all models share."""
        from orchestra.providers.network import HttpTransport

        return self._opened.own(HttpTransport())


def _key(settings: ModelSettings) -> str:
    """A key that is equal for all names of one model."""
    return f"{settings.origin}: {settings.name}"
