"""Ten thousand races over eight connections to each provider: afterwards nothing of them is left."""

from __future__ import annotations

import random
from collections import Counter

import trio
from hypothesis import settings

from orchestra import Stream, pipeline, race
from orchestra.engine.engine import Engine, open_engine
from orchestra.errors import BindingError
from orchestra.events import Event, RunFinished
from orchestra.policies.guard import GuardedModel
from orchestra.policies.health.breaker import BreakerRule
from orchestra.policies.limits.limit import CallLimits, Load
from orchestra.protocols import Embedder, Model, Timeouts, VectorStore
from orchestra.providers.connections.pool import HttpLimits, Pool
from orchestra.providers.network import HttpTransport
from orchestra.providers.remote import Endpoint, RemoteModel
from orchestra.steps.generate import generate
from tests.faults.misbehaving import (
    DONE,
    END,
    EVENTS,
    FIRST,
    HEALTHY,
    PRIMARY,
    piece,
    refusal,
    whole,
)
from tests.faults.stand import follow
from tests.providers.upstream import (
    Handler,
    Upstream,
    Visit,
    open_sockets,
    openai_endpoint,
    run,
    until,
    upstream,
)

RACES = 10_000 if settings.get_current_profile_name() == "orchestra" else 1_000
"""A tenth of them for a mutant and on a second Python: see tests/conftest.py."""
CONNECTIONS = 8
AT_ONCE = 40
SEED = 20_261_125
"""What is drawn is the same in every run; who draws it, and when, is the network's."""


@pipeline
def raced(asked: str) -> Stream[str]:
    return race(generate(asked, model="a"), generate(asked, model="b"))


def erratic(words: tuple[str, ...], draw: random.Random) -> Handler:
    """Answers: mostly whole; sometimes with an error, cut, or not at all until the client leaves."""
    parts = b"".join((*whole(("".join(words),)), piece(DONE), END))
    error = refusal("503 Service Unavailable")

    async def handle(visit: Visit) -> None:
        while True:
            await visit.request()
            drawn = draw.random()
            if drawn < 0.05:
                return await visit.send(error)
            if drawn < 0.1:
                return await visit.send(EVENTS + FIRST)
            if drawn < 0.15:
                return await visit.left()
            for _ in range(draw.choice((0, 0, 1, 5))):
                await trio.lowlevel.checkpoint()
            await visit.stream.send_all(parts)

    return handle


class Two:
    """Bindings to two models behind their guards, over one transport."""

    def __init__(self, servers: dict[str, Upstream], transport: HttpTransport) -> None:
        self.models = {
            name: GuardedModel(
                RemoteModel(_endpoint(name, server), transport),
                name=name,
                breaker=BreakerRule(failure_rate=1.0),
                limits=CallLimits(concurrency=AT_ONCE * 2, tokens_per_minute=2**50),
            )
            for name, server in servers.items()
        }

    def names(self, seam: str) -> list[str]:
        return [*self.models] if seam == "model" else []

    def model(self, name: str) -> Model:
        return self.models[name]

    def embedder(self, name: str) -> Embedder:
        raise BindingError(f"there is no embedder {name!r}")

    def store(self, name: str) -> VectorStore:
        raise BindingError(f"there is no store {name!r}")


def _endpoint(name: str, server: Upstream) -> Endpoint:
    return openai_endpoint(server, name, timeouts=Timeouts(first_byte_s=15, idle_s=15))


async def racing(engine: Engine, draw: random.Random, races: int, ends: Counter[str]) -> None:
    """So many races, one after the other; some are cancelled, sooner or later."""
    for _ in range(races):
        going = engine.start(raced, {"asked": "Count."}, deadline_s=0.25)
        if draw.random() < 1 / 6:
            for _ in range(draw.randrange(20)):
                await trio.lowlevel.checkpoint()
            going.cancel("drawn")
        events: list[Event] = []
        await follow(going, events)
        last = events[-1]
        ends[type(last).__name__] += 1
        if isinstance(last, RunFinished):
            assert last.result in ("".join(PRIMARY), "".join(HEALTHY))


def slots(pool: Pool) -> list[tuple[int, int]]:
    """Of each provider the slots that are taken, and the requests that wait for one."""
    places = pool._places.values()
    return [(each.slots.borrowed_tokens, each.waiting) for each in places if each.slots]


def test_ten_thousand_races_leave_no_task_no_socket_and_no_slot() -> None:
    draw, ends = random.Random(SEED), Counter[str]()

    async def main() -> None:
        async with upstream(erratic(PRIMARY, draw)) as a, upstream(erratic(HEALTHY, draw)) as b:
            transport = HttpTransport(limits=HttpLimits(connections_max=CONNECTIONS), proxies={})
            bound = Two({"a": a, "b": b}, transport)
            sockets, tasks = open_sockets(), trio.lowlevel.current_statistics().tasks_living
            async with open_engine(bound) as engine:
                async with trio.open_nursery() as nursery:
                    for _ in range(AT_ONCE):
                        nursery.start_soon(racing, engine, draw, RACES // AT_ONCE, ends)
                await engine.wait_idle()
                pool = transport._pool
                assert slots(pool) == [(0, 0), (0, 0)]
                kept = sum(len(each.idle) for each in pool._places.values())
                assert kept <= 2 * CONNECTIONS
                assert {each.state().load for each in bound.models.values()} == {Load(0, 0)}
            transport.close()
            await until(lambda: open_sockets() == sockets)
            await until(lambda: trio.lowlevel.current_statistics().tasks_living == tasks)

    run(main, limit_s=300)
    assert ends.total() == RACES
    assert min(ends[each] for each in ("RunFinished", "RunFailed", "RunCancelled")) > 0
