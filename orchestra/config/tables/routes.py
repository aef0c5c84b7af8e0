"""The tables `[routes.NAME]` as settings. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from orchestra import errors
from orchestra.config.tables.caches import cache_of
from orchestra.config.tables.coalescing import read_coalesce
from orchestra.config.toml import spec
from orchestra.config.toml.checking import Table, check, missing
from orchestra.config.toml.complaints import Complaints, nearest, shown
from orchestra.config.toml.places import Path as Place
from orchestra.errors import ModelError
from orchestra.policies.routing import FALLBACK, By, ByCost, ByLatency, ByOrder, ByWeight
from orchestra.providers.known.addresses import capabilities
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.settings import ModelSettings, RouteSettings

Models = Mapping[str, ModelSettings]

NOT_CALLS = ("OutputError", "ModelsFailedError")
"""Errors that a single call of a model never raises."""
ERRORS: Mapping[str, type[ModelError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, ModelError) and name not in NOT_CALLS
}
"""The errors after which a route may go on, by name."""


def read_routes(
    tables: Table, of_file: Collection[str], models: Models, complaints: Complaints
) -> dict[str, RouteSettings]:
    """The valid routes by name, each over some of these models.

    `of_file` are the names of models in the file, valid or not: no route may have one of them.
    """
    found = {}
    for name, table in tables.items():
        at = ("routes", name)
        if not isinstance(table, dict):
            complaints.not_a_table(at, table, f"write it as a table: {spec.TABLES['routes']}")
            continue
        before = len(complaints.problems)
        if name in of_file:
            message = f"this file also has a model {shown(name)}"
            complaints.add("name-taken", at, message, "give one of the two another name")
        reader = _Reader(table, at, complaints)
        named = reader.named(models, of_file, tables)
        route = reader.route(named)
        if len(complaints.problems) == before:
            found[name] = route
    return found


class _Reader:
    """Reads the table of one route."""

    def __init__(self, table: Table, at: Place, complaints: Complaints) -> None:
        self._table = table
        self._at = at
        self._complaints = complaints
        rest = {key: value for key, value in table.items() if key != "weights"}
        self._right = check(rest, at, {**spec.ROUTE, "weights": {}}, complaints)

    def named(
        self, models: Models, of_file: Collection[str], routes: Collection[str]
    ) -> dict[str, ModelSettings]:
        """The models that the route names; complains of names that are not of a model."""
        if "models" not in self._table:
            missing("models", spec.NAMES, self._at, self._complaints)
        found: dict[str, ModelSettings] = {}
        for index, name in enumerate(self._right.get("models", ())):
            place = ("models", index)
            if name == self._at[-1] and name not in models:
                self._wrong("unknown-model", place, "a route cannot be one of its own models")
            elif name in models and name in found:
                self._wrong("wrong-value", place, f"{shown(name)} is listed twice", "leave it out")
            elif name in models:
                found[name] = models[name]
            elif name in routes:
                message = f"{shown(name)} is a route, and a route consists of models"
                self._wrong("unknown-model", place, message, "name the models of that route here")
            elif name not in of_file:  # an invalid model has its own complaints
                known = models or set(of_file) - {self._at[-1]}  # all of them may be invalid
                fix = nearest(name, known) if known else "add [models.NAME]"
                self._wrong("unknown-model", place, f"there is no model {shown(name)}", fix)
        return found

    def route(self, named: Mapping[str, ModelSettings]) -> RouteSettings:
        """The settings; meaningless if there has been a complaint."""
        by = self._by(named)
        self._same_kind(named)
        return RouteSettings(
            name=str(self._at[-1]),
            models=named,
            by=by,
            weights=self._weights(by),
            falls_back_on=self._falls_back_on(),
            coalesce=read_coalesce(self._right.get("coalesce"), self._at, self._complaints),
            cache=cache_of(self._right),
            origin=self._complaints.where(self._at),
        )

    def _by(self, named: Mapping[str, ModelSettings]) -> By:
        word, sticky = self._right.get("by", "order"), self._right.get("sticky", False)
        if word == "weight":
            return ByWeight(sticky=sticky)
        if word == "latency":
            return ByLatency(sticky=sticky)
        if sticky:
            message = f"by {word}, every conversation has the same models anyway"
            self._wrong("wrong-value", ("sticky",), message, 'leave it out, or write by = "weight"')
        if word == "order":
            return ByOrder()
        self._priced(named)
        return ByCost()

    def _priced(self, named: Mapping[str, ModelSettings]) -> None:
        """Complain of models without a price: an unknown price is not the same as no cost."""
        for index, name in enumerate(self._right.get("models", ())):
            if name in named and (unknown := unpriced(named[name])):
                keys = " and ".join(f"prices.{each}" for each in unknown)
                message = f'{shown(name)} has no {keys}, which by = "cost" requires'
                fix = f"add {keys} to its table; what is free costs 0"
                self._wrong("missing-price", ("models", index), message, fix)

    def _weights(self, by: By) -> Mapping[str, float]:
        table, at = self._table.get("weights"), (*self._at, "weights")
        if table is None:
            return {}
        names = self._right.get("models", ())
        if not isinstance(table, dict):
            fix = "write it as a table, with names of its models: weights = { NAME = 2 }"
            self._complaints.not_a_table(at, table, fix)
            return {}
        if not isinstance(by, ByWeight):
            message = 'weights count only with by = "weight"'
            self._wrong(
                "wrong-value", ("weights",), message, 'write by = "weight", or leave them out'
            )
        if not names:  # there is a complaint already
            return {}
        return check(table, at, dict.fromkeys(names, spec.WEIGHT), self._complaints)

    def _falls_back_on(self) -> tuple[type[ModelError], ...]:
        fallback = self._right.get("fallback", True)
        if isinstance(fallback, bool):
            return FALLBACK if fallback else ()
        for index, name in enumerate(fallback):
            if name not in ERRORS:
                message = f"there is no error {shown(name)} of a model"
                self._wrong("unknown-error", ("fallback", index), message, nearest(name, ERRORS))
        return tuple(ERRORS[name] for name in fallback if name in ERRORS)

    def _same_kind(self, named: Mapping[str, ModelSettings]) -> None:
        """Complain of models that cannot replace each other."""
        can = {name: capabilities(each) for name, each in named.items()}
        vectors = [name for name, able in can.items() if able.embeddings]
        place = ("models",)
        for ability, does in (("embeddings", "makes vectors"), ("reranking", "reranks")):
            those = [name for name, able in can.items() if getattr(able, ability)]
            others = [name for name, able in can.items() if getattr(able, ability) is False]
            if those and others:
                message = f"{shown(those[0])} {does}, but {shown(others[0])} does not"
                self._wrong("wrong-value", place, message, "make two routes of them")
                return
        if len({named[name].model for name in vectors}) > 1:
            message = "vectors of different models cannot be compared with each other"
            self._wrong("wrong-value", place, message, "name one model, at several providers")

    def _wrong(self, code: str, place: Place, message: str, fix: str = "leave it out") -> None:
        self._complaints.add(code, (*self._at, *place), message, fix)


def unpriced(settings: ModelSettings) -> Sequence[str]:
    """The prices that are needed to compute what a call costs, and are missing."""
    if PROVIDERS[settings.provider].built_in:
        return ()
    able = capabilities(settings)
    needed = ("input",) if able.embeddings or able.reranking else ("input", "output")
    return [name for name in needed if getattr(settings.prices, name) is None]
