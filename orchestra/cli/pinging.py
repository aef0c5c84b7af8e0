"""Tests whether models answer, by small concurrent requests with a time limit."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import attrs
import trio

from orchestra.cli.run_views import duration
from orchestra.config import LocalBindings
from orchestra.config.deployment.deployment import Deployment
from orchestra.errors import ModelNotFoundError
from orchestra.groups import in_order
from orchestra.messages import describe
from orchestra.policies.requests.extras import CACHE, EXTRAS
from orchestra.providers.known.addresses import capabilities
from orchestra.providers.known.settings import ModelSettings
from orchestra.rankings import RerankRequest
from orchestra.values import ChatRequest, EmbedRequest, Message

QUESTION = "Answer with one word: hello."
ANSWER_TOKENS_MAX = 256
"""Enough for a model that thinks first; a cut answer is an answer, too."""
TOLD_CHARS = 300
_NOT_CACHED = {EXTRAS: {CACHE: "off"}}
_UNKNOWN = "; is the model's name right, and the address? `orchestra models` shows both"
"""A wrong `base_url` is answered with 404 as well, mostly without a word."""


@attrs.frozen
class Target:
    """A model or embedder to test: its name, and the function that calls it."""

    name: str
    ask: Callable[[LocalBindings], Awaitable[str]]


@attrs.frozen
class Pinged:
    """The result of a test, in one line."""

    name: str
    answered: bool
    text: str


def targets(deployment: Deployment, names: Sequence[str]) -> list[Target]:
    """The targets with these names, or all targets; each once, with its own name beside another.

    Routes are tested only by name: otherwise each of their models is tested anyway.
    """
    chosen: dict[str, Target] = {}
    for name in names or deployment.models:
        if settings := deployment.models.get(name):
            ask = partial(_way_to_ask([settings]), name)
            shown = name if names or name == settings.name else f"{name} (= {settings.name})"
            chosen.setdefault(f"model {settings.origin} {settings.name}", Target(shown, ask))
    for name in names:
        if route := deployment.routes.get(name):
            ask = partial(_way_to_ask(route.models.values()), name)
            chosen.setdefault(f"route {route.name}", Target(f"{name} (route)", ask))
    for name in names or deployment.embedders:
        if name in deployment.embedders:
            chosen[f"embedder {name}"] = Target(f"{name} (embedder)", partial(_ask_embedder, name))
    return list(chosen.values())


def _way_to_ask(
    models: Iterable[ModelSettings],
) -> Callable[[str, LocalBindings], Awaitable[str]]:
    """The request for models of one kind."""
    able = [capabilities(each) for each in models]
    if any(each.reranking for each in able):
        return _ask_ranking
    return _ask_vectors if any(each.embeddings for each in able) else _ask_text


async def ping_all(
    chosen: Sequence[Target], bindings: LocalBindings, *, timeout_s: float, at_once: int
) -> list[Pinged]:
    """The result of each test, in order."""
    return await in_order(partial(_ping, bindings, timeout_s), chosen, at_once)


async def _ping(bindings: LocalBindings, timeout_s: float, target: Target) -> Pinged:
    began_s = trio.current_time()
    try:
        with trio.fail_after(timeout_s):
            answer = await target.ask(bindings)
    except trio.TooSlowError:
        return Pinged(target.name, answered=False, text=f"no answer within {timeout_s:g} s")
    except Exception as error:  # noqa: BLE001 - a class of the project may raise anything
        text = " ".join(describe(error).split())[:TOLD_CHARS]
        hint = _UNKNOWN if isinstance(error, ModelNotFoundError) else ""
        return Pinged(target.name, answered=False, text=text + hint)
    took = duration(trio.current_time() - began_s)
    return Pinged(target.name, answered=True, text=f"{took}  {answer}")


async def _ask_text(name: str, bindings: LocalBindings) -> str:
    messages = (Message("user", QUESTION),)
    request = ChatRequest(messages, output_tokens_max=ANSWER_TOKENS_MAX, extras=_NOT_CACHED)
    answer = await bindings.model(name).complete(request)
    return f"answered by {answer.model}" if answer.model else "answered"


async def _ask_vectors(name: str, bindings: LocalBindings) -> str:
    answer = await bindings.model(name).embed(EmbedRequest(("hello",), extras=_NOT_CACHED))
    return f"a vector of {len(answer.vectors[0])} numbers"


async def _ask_ranking(name: str, bindings: LocalBindings) -> str:
    request = RerankRequest("hello", ("hello", "goodbye"), extras=_NOT_CACHED)
    ranking = await bindings.model(name).rerank(request)
    return f"a ranking of {len(ranking.results)} texts"


async def _ask_embedder(name: str, bindings: LocalBindings) -> str:
    text = f"hello {time.time_ns()}"  # a new one each time, which no cache can have
    vector = (await bindings.embedder(name).embed([text]))[0]
    return f"a vector of {len(vector)} numbers"
