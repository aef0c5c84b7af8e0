"""The cost of policies: a run with a configured model, compared with one with a bare model.

The deployment is a real `orchestra.toml`; only the provider is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self
from unittest import mock

import trio

from benchmarks.stopwatch import Stopwatch, Taken
from orchestra import Pipeline, Policy, Retry, Stream, pipeline, step
from orchestra.accounts import Caller, Usage
from orchestra.answers import Completion
from orchestra.config.bindings import LocalBindings
from orchestra.config.deployment.deployment import EMBEDDED
from orchestra.config.reading import read
from orchestra.engine.engine import Engine, open_engine
from orchestra.protocols import Context, Model, injected
from orchestra.providers import remote
from orchestra.steps import generate
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Message,
    ModelEvent,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
)

BLOCKS = 20
"""Alternations of both in one sample, so that both have the same load on the machine."""
CALLER = Caller("acme", "ada")
TEXTS = tuple(TextDelta(f"word {number} ") for number in range(5))
SAID = "".join(event.text for event in TEXTS)
END = (UsageReport(Usage(100, 10)), Stopped(StopReason.END, "stop"))
BATCHES: tuple[tuple[ModelEvent, ...], ...] = (*((text,) for text in TEXTS), END)
WHOLE = Completion.of([*TEXTS, *END])
QUESTION = "Why is the sky blue? " * 20
"""About a hundred tokens."""
MODEL = """
[models.{name}]
provider = "openai"
model = "m"
key_env = "KEY"
prices = {{ input = 1, output = 8 }}
breaker = {{ enabled = {breaker} }}
"""
PARTS = {
    "breaker": "",
    "limits": "limits = { requests_per_minute = 1000000000, tokens_per_minute = 1000000000000, "
    "concurrency = 1000, adaptive = true }\n",
    "cache": "cache = { ttl_s = 600 }\n",
    "coalesce": "coalesce = true\n",
}
"""The configurable policies of a model."""
TABLES = {
    "route": '[routes.route]\nmodels = ["asked", "other"]\n',
    "budgets": '[budgets]\nuser = { day = "900000", month = "900000" }\n'
    'organisation = { day = "900000", month = "900000" }\n',
    "callers": "[limits.user]\nrequests_per_minute = 1000000000\n"
    "tokens_per_minute = 1000000000000\n",
}
"""The configurable parts of a deployment."""


class Ready(Model):
    """A model whose answer is there at once, as a provider's that has begun to answer."""

    capabilities = Capabilities()

    def stream(self, request: ChatRequest) -> Any:
        """The answer, a word at a time."""
        del request
        return _Reply()

    async def complete(self, request: ChatRequest) -> Completion:
        """The answer."""
        del request
        await trio.lowlevel.checkpoint()
        return WHOLE

    async def embed(self, request: object) -> Any:
        """It makes no vectors."""
        raise NotImplementedError("nobody embeds in this benchmark")


class _Reply:
    """One answer: a context, and in it the reply."""

    def __init__(self) -> None:
        self._left = iter(BATCHES)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    async def receive(self) -> tuple[ModelEvent, ...]:
        """The next word."""
        await trio.lowlevel.checkpoint()
        return next(self._left, ())


@step(name="generate")
async def whole(asked: str, model: str, *, context: Context = injected) -> str:
    """The answer in one piece."""
    answer = await context.model(model).complete(ChatRequest((Message("user", asked),)))
    context.used(answer.usage or Usage())
    return answer.text


def asking(kind: str, model: str, policy: Policy) -> Pipeline[[str], Any]:
    """A pipeline that asks a model of this name once."""
    if kind == "stream":

        @pipeline
        def said(asked: str) -> Stream[str]:
            return generate.using(policy)(asked, model=model)

        return said

    @pipeline
    def answered(asked: str) -> str:
        return whole.using(policy)(asked, model)

    return answered


def written(layers: tuple[str, ...]) -> str:
    """The configuration that has these, on its model `asked`."""
    breaker = "true" if "breaker" in layers else "false"
    parts = "".join(text for name, text in PARTS.items() if name in layers)
    tables = "".join(text for name, text in TABLES.items() if name in layers)
    other = MODEL.format(name="other", breaker=breaker)
    asked = MODEL.format(name="asked", breaker=breaker)
    return asked + parts + other + parts + tables + '[state]\nurl = "memory:"\n'


class Beside(LocalBindings):
    """The bindings of a deployment, and the bare model beside them."""

    def names(self, seam: str) -> list[str]:
        """All names, with that of the bare model."""
        return [*super().names(seam), *(["bare"] if seam == "model" else [])]

    def model(self, name: str) -> Model:
        """A model of the deployment, or the bare one."""
        return READY if name == "bare" else super().model(name)


READY = Ready()


def overhead(kind: str, layers: tuple[str, ...], runs: int) -> tuple[Taken, Taken]:
    """The time for so many runs with these layers, and for as many with the bare model."""
    ready = mock.patch.object(remote, "RemoteModel", return_value=READY)
    with ready, TemporaryDirectory() as folder:
        deployment = read(written(layers), Path(folder, "orchestra.toml"), EMBEDDED)
        with Beside(Path(folder), deployment, {"KEY": "none"}) as bindings:
            return trio.run(_both, kind, layers, bindings, runs)


async def _both(
    kind: str, layers: tuple[str, ...], bindings: Beside, runs: int
) -> tuple[Taken, Taken]:
    policy = Policy(retry=Retry(attempts_max=3)) if "retry" in layers else Policy()
    name = "route" if "route" in layers else "asked"
    full, bare = asking(kind, name, policy), asking(kind, "bare", Policy())
    async with open_engine(bindings) as engine:
        numbers = count()
        spent = {full: Taken(0.0, 0.0), bare: Taken(0.0, 0.0)}
        for shape in spent:
            await _asked(engine, shape, 20, numbers)
        for _ in range(BLOCKS):
            for shape, before in spent.items():
                took = await _asked(engine, shape, runs // BLOCKS, numbers)
                spent[shape] = Taken(before.wall_s + took.wall_s, before.cpu_s + took.cpu_s)
        return spent[full], spent[bare]


async def _asked(
    engine: Engine, shape: Pipeline[[str], Any], runs: int, numbers: Iterator[int]
) -> Taken:
    """The time for some runs, one after the other; no question comes twice."""
    watch = Stopwatch()
    for _ in range(runs):
        asked = f"{next(numbers)}: {QUESTION}"
        run = engine.start(shape, {"asked": asked}, caller=CALLER)
        if (found := await run.result()) != SAID:
            raise AssertionError(f"the model said {found!r}, not {SAID!r}")
    return watch.taken()
