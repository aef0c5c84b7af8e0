"""A deployment over real sockets: a primary that misbehaves, a healthy one, and an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from orchestra import Stream, fallback, pipeline, race
from orchestra.config.bindings import LocalBindings
from orchestra.config.deployment.deployment import EMBEDDED
from orchestra.config.reading import read
from orchestra.engine.engine import Engine, open_engine
from orchestra.engine.run import Run
from orchestra.events import Event
from orchestra.policies.limits.limit import Load
from orchestra.steps.generate import generate
from tests.faults.misbehaving import HEALTHY, LONG_S, speaks
from tests.providers.upstream import Handler, Upstream, open_sockets, until, upstream

DEADLINE_S = 20.0
SOON_S = 0.02
MODEL = """\
[models.{name}]
provider = "openai"
model = "{name}"
base_url = "http://127.0.0.1:{port}/v1"
key_env = "KEY"
timeouts = {{ first_byte_s = {wait_s}, idle_s = {wait_s} }}
prices = {{ input = 1, output = 2 }}
limits = {{ concurrency = 8, requests_per_minute = 6000, tokens_per_minute = 10000000, adaptive = true }}
breaker = {{ calls_min = 4, open_s = 60 }}
"""
ROUTE = """\
[routes.r]
models = ["a", "b"]
"""


@pipeline
def routed(asked: str) -> Stream[str]:
    return generate(asked, model="r")


@pipeline
def fallen(asked: str) -> Stream[str]:
    return fallback(generate(asked, model="a"), generate(asked, model="b"))


@pipeline
def restarted(asked: str) -> Stream[str]:
    return fallback(generate(asked, model="a"), generate(asked, model="b"), restart=True)


@pipeline
def raced(asked: str) -> Stream[str]:
    return race(generate(asked, model="a"), generate(asked, model="b"), stagger_s=LONG_S)


@pipeline
def hedged(asked: str) -> Stream[str]:
    return race(generate(asked, model="a"), generate(asked, model="b"), stagger_s=SOON_S)


WAYS = {each.name: each for each in (routed, fallen, restarted, raced, hedged)}


@attrs.define(eq=False)
class Stand:
    """The deployment, while it stands."""

    bindings: LocalBindings
    engine: Engine
    servers: dict[str, Upstream]
    sockets: int
    """Open before the first call."""
    tasks: int

    @property
    def kept(self) -> int:
        """Connections that are free, and kept for the next call."""
        transport = self.bindings._assembly._transport
        return sum(len(each.idle) for each in transport._pool._places.values())

    def asked(self, name: str) -> int:
        """Connections that a server has seen."""
        return len(self.servers[name].visits)

    async def run(self, way: str) -> list[Event]:
        """One run to its end, within its deadline: its journal."""
        events: list[Event] = []
        began_s = trio.current_time()
        run = self.engine.start(WAYS[way], {"asked": "Count."}, deadline_s=DEADLINE_S)
        await follow(run, events)
        assert trio.current_time() - began_s < DEADLINE_S
        return events

    async def cleared(self) -> None:
        """Wait until nothing is left of the calls but connections that are kept, two ends each.

        A test that hangs here has found what was left behind.
        """
        await self.engine.wait_idle()
        await until(lambda: open_sockets() == self.sockets + 2 * self.kept)
        for guarded in self.bindings.states().values():
            assert attrs.evolve(guarded.load, at_once=None) == Load(0, 0)
        for model in self.bindings._assembly._guarded.values():
            assert not model._gate.limiter._tokens.state.open  # type: ignore[attr-defined]


async def follow(run: Run, into: list[Event]) -> None:
    """All events of a run, up to its last."""
    with run.journal.attach() as reader:
        while batch := await reader.after(into[-1].seq if into else 0):
            into.extend(batch)


@asynccontextmanager
async def standing(
    primary: Handler, tmp_path: Path, wait_s: float = LONG_S
) -> AsyncIterator[Stand]:
    """A stand whose `a` is this, and whose `b` is healthy; afterwards nothing is left of it."""
    async with upstream(primary) as first, upstream(speaks(HEALTHY)) as second:
        servers = {"a": first, "b": second}
        text = ROUTE + "".join(
            MODEL.format(name=name, port=server.port, wait_s=wait_s if name == "a" else LONG_S)
            for name, server in servers.items()
        )
        deployment = read(text, tmp_path / "orchestra.toml", EMBEDDED)
        sockets = open_sockets()
        tasks = trio.lowlevel.current_statistics().tasks_living
        with LocalBindings(tmp_path, deployment, {"KEY": "sk-test"}) as bindings:
            async with open_engine(bindings) as engine:
                stand = Stand(bindings, engine, servers, sockets, tasks)
                yield stand
                await stand.cleared()
        await until(lambda: open_sockets() == sockets)
        await until(lambda: trio.lowlevel.current_statistics().tasks_living == tasks)
