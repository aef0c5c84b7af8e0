"""Checks of a deployment in `check` and `serve`, in addition to those of its configuration.

Each function yields lines: about missing packages and files, or unexpected behaviour. A line has
the text of the error that the first call would raise, so that one search finds both. Only needed
packages are checked; one that only some inputs need is a note, not a problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from orchestra.compiler.plan import named_by
from orchestra.errors import BindingError, OrchestraError
from orchestra.graph.nodes import Call

if TYPE_CHECKING:
    from orchestra.cli.loading import AnyPipeline
    from orchestra.compiler.plan import Plan
    from orchestra.config import LocalBindings
    from orchestra.config.deployment.deployment import Deployment
    from orchestra.protocols import Bindings
    from orchestra.providers.known.settings import ModelSettings


def missing_for(deployment: Deployment) -> Iterator[str]:
    """The missing requirements of the configuration, each with its line."""
    from orchestra.closing import close
    from orchestra.config.deployment.own_classes import make_own
    from orchestra.observe import counting
    from orchestra.stores.postgres import settings as postgres
    from orchestra.stores.state.settings import check_installed

    if deployment.database is not None:
        at = f"{deployment.where('stores', 'url')}: stores.url"
        yield from _complaint_of(at, partial(postgres.check_installed, deployment.database))
    if deployment.state is not None:
        at = f"{deployment.where('state', 'url')}: state.url"
        yield from _complaint_of(at, partial(check_installed, deployment.state))
    if deployment.server.settings.get("metrics"):  # by default on only if installed
        at = f"{deployment.where('server', 'metrics')}: server.metrics"
        yield from _complaint_of(at, counting.check_installed)
    owns = [(each.own, each.name, each.origin) for each in deployment.stores.values()]
    owns += [(own, each.name, each.origin) for own, each in deployment.own_classes()]
    for own, name, origin in owns:
        try:
            close(make_own(own, name, origin))
        except OrchestraError as error:
            yield f"{error} [{own.seam}-unfit]"
    yield from unpriced_models(deployment)


def unpriced_models(deployment: Deployment) -> Iterator[str]:
    """Models that cannot be called, since their price is unknown and such calls are refused."""
    if deployment.budgets is None or deployment.budgets.unknown_price == "flag":
        return
    by_place = {(model.origin, model.name): model for model in deployment.models.values()}
    for (origin, _), model in by_place.items():
        yield from _complaint_of(origin, partial(_check_price, model), "unknown-price")


def forgotten_budgets(bindings: LocalBindings) -> Iterator[str]:
    """A note if budgets are reset by each start."""
    deployment = bindings.deployment
    if deployment.budgets is None or not deployment.budgets.lasting:
        return
    if deployment.state is not None and bindings.state_settings.url == "memory:":
        yield (
            f"{deployment.where('state', 'url')}: state.url: daily and monthly spending is "
            "forgotten when the server stops; to keep it in state.sqlite, leave [state] out, or "
            'write "sqlite:state.sqlite" (which then holds limits, caches and keys, too)'
        )


def missing_for_pipeline(plan: Plan, deployment: Deployment) -> Iterator[str]:
    """The packages that a pipeline needs and that are not installed, each with its step's line."""
    from orchestra.providers.wordllama import home

    for node in plan.nodes:
        named = [(seam, name) for _, seam, name in named_by(node)]
        if deployment.uses_built_in(named):
            yield from _complaint_of(f"{node.origin.where}: {node.label}", home)


def perhaps_missing(plan: Plan) -> Iterator[str]:
    """The packages that only some inputs of a pipeline need and that are not installed."""
    from orchestra.steps import read
    from orchestra.steps.texts.pdf import check_installed

    check = partial(check_installed, "it is given documents, which may be PDFs")
    for node in plan.nodes:
        if isinstance(node, Call) and node.step in (read.pages, read.text_of):
            yield from _complaint_of(f"{node.origin.where}: {node.label}", check)


def never_falling_back(plan: Plan, deployment: Deployment) -> Iterator[str]:
    """The steps whose `first_chunk_s` ends before a stalled model of their route is left.

    Own classes and built-in models are left out: they have no timeouts of ours. So is the last
    model of a route that asks in order.
    """
    from orchestra.policies.routing import ByOrder
    from orchestra.providers.known.catalog import PROVIDERS

    for node in plan.nodes:
        bound_s = node.policy.first_chunk_s if isinstance(node, Call) else None
        if bound_s is None:
            continue
        routes = [
            deployment.routes.get(name) for _, seam, name in named_by(node) if seam == "model"
        ]
        for route in filter(None, routes):
            models = [*route.models.items()]
            slow = [
                name
                for name, model in (models[:-1] if isinstance(route.by, ByOrder) else models)
                if PROVIDERS[model.provider].remote
                and model.own is None
                and (model.timeouts.first_byte_s or inf) >= bound_s
            ]
            if slow and len(models) > 1 and route.falls_back_on:
                yield (
                    f"{node.origin.where}: {node.label}: first_chunk_s={bound_s:g} bounds all "
                    f"models of route {route.name!r} together: if {' or '.join(map(repr, slow))} "
                    "stalls, the step fails before the next model is called; write timeouts = "
                    f"{{ first_byte_s = {bound_s / 2:g} }} in [models.{slow[0]}], or any number "
                    f"below {bound_s:g}{', and so for the others' if slow[1:] else ''}"
                )


def unknown_pipelines(pipelines: Iterable[AnyPipeline], deployment: Deployment) -> Iterator[str]:
    """Pipelines that the configuration names and that do not exist."""
    from orchestra.config.toml.complaints import nearest
    from orchestra.messages import dotted
    from orchestra.problem import Problem

    known = [each.name for each in pipelines]
    for name in deployment.server.pipelines:
        if name not in known:
            path = ("server", "pipelines", name)
            message = f"{dotted(path)}: there is no pipeline {name!r}"
            fix = nearest(name, known) if known else "write it, or leave this out"
            yield str(Problem("unknown-name", deployment.where(*path), message, fix))


def hidden_by_models(pipelines: Iterable[AnyPipeline], bindings: Bindings) -> Iterator[str]:
    """Pipelines that are not offered as models, since a model has the same name."""
    from orchestra.server.inputs.chat_shapes import shape_of

    kinds = {name: seam for seam in ("embedder", "model") for name in bindings.names(seam)}
    for each in pipelines:
        if each.name in kinds and shape_of(each) is not None:
            yield (
                f"{each.where}: pipeline {each.name!r} is not offered as a model: "
                f"{_ARTICLES[kinds[each.name]]} has that name, and clients that name it "
                "get that; rename one of them"
            )


def unservable(pipelines: Iterable[AnyPipeline]) -> Iterator[str]:
    """Pipelines that no client can call, and why; other pipelines can still call them."""
    from orchestra.server.inputs.reading import sorted_out

    for each in pipelines:
        _, refused = sorted_out({each.name: each})
        for error in refused.values():
            yield f"{each.where}: {error}"


def without_keyword_search(plan: Plan, deployment: Deployment) -> Iterator[str]:
    """The calls of `retrieve` with keywords in a store of an own class that has no such search."""
    from orchestra.closing import close
    from orchestra.config.deployment.own_classes import make_own
    from orchestra.steps.retrieve import check_has_keywords, retrieve

    for node in plan.nodes:
        if not isinstance(node, Call) or node.step is not retrieve:
            continue
        name = node.arguments["store"]
        settings = deployment.stores.get(name) if isinstance(name, str) else None
        if settings is None or node.arguments.get("keywords") is None:
            continue
        with suppress(BindingError):  # `missing_for` has reported it
            store = make_own(settings.own, settings.name, settings.origin)
            check = partial(check_has_keywords, store, settings.name)
            yield from _complaint_of(f"{node.origin.where}: retrieve", check, "store-unfit")
            close(store)


_ARTICLES = {"model": "a model", "embedder": "an embedder"}


def _check_price(model: ModelSettings) -> None:
    from orchestra.policies.money.call_costs import unknown_price
    from orchestra.providers.known.prices import price_of

    if price_of(model) is None:
        raise unknown_price(model.name)


def _complaint_of(
    where: str, check: Callable[[], object], code: str = "not-installed"
) -> Iterator[str]:
    try:
        check()
    except OrchestraError as error:
        yield f"{where}: {error} [{code}]"
