"""Those who ask the same, for the tests of coalescing: what they do, and what they pay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import attrs
import trio
import trio.testing
from hypothesis import strategies as st

from orchestra.accounts import Caller, Usage
from orchestra.answers import Completion
from orchestra.errors import ModelError
from orchestra.events import Note
from orchestra.policies.account import PRESENT, Account
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.protocols import Model, ModelReply
from orchestra.testing.virtual import virtual
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Message,
    ModelEvent,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
    Vector,
)

ASKED = ChatRequest((Message("user", "Why is the sky blue?"),))
ACME = Caller("acme", "ada")


def saying(count: int) -> tuple[ModelEvent, ...]:
    """Texts, the usage so far after each, and the end."""
    said: list[ModelEvent] = []
    for at in range(count):
        used = Usage(100, at + 1, cost_nanodollars=1000 + 7 * at)
        said += [TextDelta(f"{at} "), UsageReport(used)]
    return (*said, Stopped(StopReason.END))


@attrs.define(eq=False)
class Fake(Model):
    """Says its events a second after each other, then fails if it has an error."""

    events: tuple[ModelEvent, ...] = saying(3)
    error: BaseException | None = None
    settles: bool = False
    """Whether it writes its usage down by itself when it is left, as a budget does."""
    asked: int = 0
    running: int = 0
    said: int = 0
    reported: list[Usage] = attrs.field(factory=list)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(tools=True)

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        self.asked += 1
        self.running += 1
        self.reported.append(Usage())
        account, number = PRESENT.get(), self.asked - 1
        try:
            yield FakeReply(self, list(self.events), number)
        finally:
            self.running -= 1
            if self.settles:
                account.used(self.reported[number])

    async def complete(self, request: ChatRequest) -> Completion:
        """The whole answer, when all of it is said; before, it has reported nothing."""
        self.asked += 1
        self.running += 1
        self.reported.append(Usage())
        account, number = PRESENT.get(), self.asked - 1
        try:
            await trio.sleep(len(self.events) + 1)
            if self.error is not None:
                raise self.error
            answer = Completion.of(self.events)
            if answer.usage is None:
                return answer
            self.reported[number] = answer.usage
            return attrs.evolve(answer, usage=attrs.evolve(answer.usage, settled=self.settles))
        finally:
            self.running -= 1
            if self.settles:
                account.used(self.reported[number])

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self.asked += 1
        await trio.sleep(1)
        self.reported.append(Usage(7))
        return Embeddings(tuple(Vector.of([len(each)]) for each in request.texts), Usage(7))


@attrs.define(eq=False)
class FakeReply:
    model: Fake
    left: list[ModelEvent]
    number: int

    async def receive(self) -> tuple[ModelEvent, ...]:
        await trio.sleep(1)
        if not self.left:
            if self.model.error is not None:
                raise self.model.error
            return ()
        event = self.left.pop(0)
        self.model.said += 1
        if isinstance(event, UsageReport):
            self.model.reported[self.number] = event.usage
            if self.model.settles:
                event = UsageReport(attrs.evolve(event.usage, settled=True))
        return (event,)


@attrs.define(eq=False)
class Payer:
    """An account in a nursery; what it is told, it keeps."""

    nursery: trio.Nursery
    run_id: str = "r"
    caller: Caller = ACME
    usage: Usage | None = None
    notes: list[tuple[object, ...]] = attrs.field(factory=list)
    run_key: object = None
    step: str = "s"

    def used(self, usage: Usage, model: str = "") -> None:
        if not usage.settled:
            self.usage = usage if self.usage is None else self.usage + usage

    def record(self, note: type[Note], *fields: object) -> None:
        self.notes.append((note, *fields))

    def spawn(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        self.nursery.start_soon(task, name=name)


@attrs.frozen
class Visit:
    """One who asks at a time, reads with pauses, and leaves after so many batches, or at a time."""

    at_s: float
    pause_s: float = 0.0
    batches: int = 1000
    cancelled_s: float = 1e5
    whole: bool = False
    """It asks for a completion."""


visits = st.builds(
    Visit,
    st.integers(0, 10).map(float),
    st.sampled_from([0.0, 0.0, 0.5, 3.0]),
    st.sampled_from([0, 1, 2, 1000, 1000]),
    st.sampled_from([0.0, 1.0, 2.5, 6.0, 1e5, 1e5]),
    st.booleans(),
)


@attrs.define(eq=False)
class Heard:
    payer: Payer
    events: list[ModelEvent] = attrs.field(factory=list)
    answer: Completion | None = None
    ended: bool = False
    error: ModelError | None = None


async def visit(shared: CoalescedModel, visit: Visit, heard: Heard) -> None:
    PRESENT.set(heard.payer)
    await trio.sleep(visit.at_s)
    with trio.move_on_after(visit.cancelled_s):
        try:
            if visit.whole:
                heard.answer = await shared.complete(ASKED)
                heard.ended = True
                return
            async with shared.stream(ASKED) as reply:
                for _ in range(visit.batches):
                    if not (batch := await reply.receive()):
                        heard.ended = True
                        break
                    heard.events += batch
                    await trio.sleep(visit.pause_s)
        except ModelError as error:
            heard.error = error


async def all_of(shared: CoalescedModel, drawn: Sequence[Visit]) -> list[Heard]:
    """What each of them heard, each in a run of its own."""
    async with trio.open_nursery() as engine:
        heard = [Heard(Payer(engine, f"r{at}")) for at in range(len(drawn))]
        async with trio.open_nursery() as nursery:
            for each, one in zip(drawn, heard, strict=True):
                nursery.start_soon(visit, shared, each, one)
        await trio.testing.wait_all_tasks_blocked()
        assert not engine.child_tasks, "a flight outlives its waiters"
    assert shared.flights == 0
    return heard


def run(main: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    async def within() -> None:
        async with trio.open_nursery() as engine:
            await main(engine)

    virtual(within)


def as_(account: Account) -> None:
    PRESENT.set(account)


async def read(model: Model, request: ChatRequest = ASKED) -> list[tuple[ModelEvent, ...]]:
    batches = []
    async with model.stream(request) as reply:
        while batch := await reply.receive():
            batches.append(batch)
    return batches


async def together(shared: Model, *asked: tuple[Account, ChatRequest]) -> None:
    async def ask(account: Account, request: ChatRequest) -> None:
        as_(account)
        await read(shared, request)

    async with trio.open_nursery() as nursery:
        for each in asked:
            nursery.start_soon(ask, *each)
            await trio.sleep(0.1)


def ask(text: str) -> ChatRequest:
    return ChatRequest((Message("user", text),))
