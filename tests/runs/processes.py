"""Simulated processes that share a state: each has its registry, its engine and its connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypeVar

import attrs
import trio

from orchestra.accounts import Caller
from orchestra.engine.engine import Engine, open_engine
from orchestra.engine.run import Run
from orchestra.errors import StateError
from orchestra.events import Event
from orchestra.graph.pipelines import pipeline
from orchestra.graph.rules.policy import Limits
from orchestra.graph.steps import step
from orchestra.protocols import Change, State, Stream
from orchestra.runs.record import EventLine, event_lines_of
from orchestra.runs.registry import Registry, open_registry
from orchestra.runs.settings import RunsSettings
from orchestra.stores.state.memory import MemoryState

T = TypeVar("T")

ACME = Caller("acme", "ann", "k1")
SOON = RunsSettings(batch_s=0.01, publish_s=0.02, inbox_s=0.02, heartbeat_s=0.2, dead_after_s=0.7)
REAL = attrs.evolve(SOON, dead_after_s=3.0)
"""For tests in real time: on a busy machine, a live process may be silent for a second."""


class Cable(State):
    """The connection of one process to the state: slow, failing now and then, or cut."""

    def __init__(self, inner: State, random: Random | None = None, *, breaks: float = 0.0) -> None:
        self._inner = inner
        self._random = random
        self.breaks = breaks
        self.cut = False
        self.error: BaseException = StateError("the cable is broken; mend it")
        """The error of calls that fail."""
        self.deaf = False
        """Whether writes are made, but their callers get the error in place of an answer."""
        self.closed_to: str | None = None
        """Changes of keys that begin with this cannot reach the state."""
        self.opens: trio.Event | None = None
        """Such changes wait until it is set; without it, they fail at once."""
        self.waiting = 0
        self.calls = 0

    async def change(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[bytes | None], float], Change[T]],
    ) -> T:
        await self._way()
        if self.closed_to and any(key.startswith(self.closed_to) for key in keys):
            if self.opens is None:
                raise StateError("this way is closed; open it")
            self.waiting += 1
            try:
                await self.opens.wait()
            finally:
                self.waiting -= 1
        result = await self._inner.change(keys, decide)
        await self._way(back=True)
        return result

    async def recall(self, key: str) -> bytes | None:
        await self._way()
        return await self._inner.recall(key)

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        await self._way()
        await self._inner.remember(key, data, ttl_s=ttl_s)
        await self._way(back=True)

    async def _way(self, *, back: bool = False) -> None:
        self.calls += 1
        random = self._random
        delay_s = random.choice([0, 0, 0, 0.01, 0.2]) if random else 0
        await trio.sleep_until(trio.current_time() + delay_s)
        if self.cut or (back and self.deaf) or (random and random.random() < self.breaks):
            raise self.error


@step
async def say(script: list[tuple[float, str]]) -> AsyncIterator[str]:
    for delay_s, chunk in script:
        await trio.sleep_until(trio.current_time() + delay_s)
        yield chunk


@pipeline
def speech(script: list[tuple[float, str]]) -> Stream[str]:
    """The chunks of a script, each so many seconds after the one before."""
    return say(script)


@attrs.frozen
class Process:
    """One simulated process."""

    registry: Registry
    engine: Engine
    cable: Cable

    def start(
        self,
        script: Sequence[tuple[float, str]],
        caller: Caller = ACME,
        **options: Any,
    ) -> Run:
        return self.engine.start(speech, {"script": list(script)}, caller=caller, **options)


@asynccontextmanager
async def process(
    cable: Cable,
    settings: RunsSettings | None = None,
    *,
    limits: Limits | None = None,
    now_s: Callable[[], float] = trio.current_time,
    shared: bool = True,
) -> AsyncIterator[Process]:
    async with (
        open_registry(cable, settings, shared=shared, now_s=now_s) as registry,
        open_engine(limits=limits) as engine,
    ):
        yield Process(registry, engine, cable)


def memory(limit_bytes: int = 1 << 20) -> MemoryState:
    """A state whose time is that of the virtual clock."""
    return MemoryState(limit_bytes=limit_bytes, now_s=lambda: 1e9 + trio.current_time())


class Spied(list[Event]):
    """The events of a journal; the line of each appended event is also added to `told`."""

    def __init__(self, run: Run, told: list[EventLine]) -> None:
        super().__init__(run.journal._events)
        self._request_id = run.request_id
        self._told = told

    def append(self, event: Event) -> None:
        super().append(event)
        self._told.extend(event_lines_of([event], self._request_id))


def spied(run: Run) -> list[EventLine]:
    """A list that gets the lines of all later events of a run, also of those that its journal drops."""
    events: list[EventLine] = []
    run.journal._events = Spied(run, events)
    return events


def lines(run: Run) -> list[EventLine]:
    """The lines of all events that the journal of a run has."""
    return list(event_lines_of(run.journal.kept, run.request_id))


async def heard(registry: Registry, run_id: str, after: int = 0) -> list[EventLine]:
    """All lines that a new follower of the run gets, after the event of this number."""
    following = await registry.follow(run_id)
    assert following is not None
    events: list[EventLine] = []
    with following:
        while batch := await following.after(after):
            events += batch
            after = batch[-1].seq
    return events
