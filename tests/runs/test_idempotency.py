"""A key starts one run, whoever sends it, wherever, and however often."""

from __future__ import annotations

from contextlib import AsyncExitStack
from random import Random

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.accounts import Caller
from orchestra.errors import StateError
from orchestra.runs import idempotency
from orchestra.runs.idempotency import ConflictingClaim, ExistingClaim, NewClaim
from orchestra.runs.keys import claim_key, digest_of
from orchestra.runs.local import CONTINUE
from orchestra.runs.settings import RunsSettings
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from tests.runs.processes import ACME, Cable, Process, memory, process

PROCESSES = 3


@attrs.frozen
class Sender:
    """When a client sends the request, and to which processes, until one takes it."""

    comes_s: float
    asks: tuple[int, ...]
    refused: int
    """How often the engine is full when it is asked to start the run."""


senders = st.builds(
    Sender,
    comes_s=st.sampled_from([0.0, 0.0, 0.01, 0.2, 3.0]),
    asks=st.lists(st.integers(0, PROCESSES - 1), min_size=1, max_size=3).map(tuple),
    refused=st.sampled_from([0, 0, 0, 1, 2]),
)


class Client:
    """One who sends the same request until it is taken."""

    def __init__(self, processes: list[Process], started: list[str]) -> None:
        self.processes = processes
        self.started = started

    async def send(self, sender: Sender, key: str = "k", digest: str = "d") -> str:
        await trio.sleep(sender.comes_s)
        refused = sender.refused
        for number in range(1_000):
            asked = sender.asks[number % len(sender.asks)]
            one = self.processes[asked % len(self.processes)]
            try:
                claimed = await one.registry.claim(key, digest, pipeline="speech", caller=ACME)
            except StateError:
                await trio.sleep(0.05)
                continue
            if isinstance(claimed, NewClaim) and refused:
                refused -= 1
                await one.registry.unclaim(claimed)
                continue
            return await self.begun(one, claimed)
        raise AssertionError("it was never taken")

    async def begun(self, one: Process, claimed: object) -> str:
        if isinstance(claimed, NewClaim):
            run = one.start([(1.0, "x")], run_id=claimed.run_id)
            one.registry.adopt(run, linger_s=CONTINUE, readers=0)
            self.started.append(run.id)
        assert isinstance(claimed, NewClaim | ExistingClaim)
        return claimed.run_id


@settings(max_examples=70)
@given(
    crowd=st.lists(senders, min_size=2, max_size=4),
    breaks=st.sampled_from([0.0, 0.1, 0.3]),
    alone=st.booleans(),
    seed=st.integers(0, 2**32),
    schedule=schedules(),
)
def test_a_key_starts_one_run_under_any_interleaving(
    crowd: list[Sender], breaks: float, alone: bool, seed: int, schedule: int
) -> None:
    """Also where ways to the state break, so that nobody knows whether a claim was made.

    And where a process is alone with its state, which is then in memory, and does not fail.
    """
    started: list[str] = []
    answers: list[str] = []

    async def main() -> None:
        state, random = memory(), Random(seed)
        ways = [Cable(state, random, breaks=breaks) for _ in range(PROCESSES)]
        async with AsyncExitStack() as stack:
            opened = [process(Cable(state), shared=False)] if alone else map(process, ways)
            each = [await stack.enter_async_context(one) for one in opened]
            client = Client(each, started)

            async def one(sender: Sender) -> None:
                answers.append(await client.send(sender))

            async with trio.open_nursery() as nursery:
                for sender in crowd:
                    nursery.start_soon(one, sender)

    virtual(main, schedule=schedule)
    assert len(started) == 1
    assert answers == started * len(crowd)


def test_a_key_belongs_to_its_tenant_and_its_pipeline() -> None:
    async def main() -> None:
        async with process(Cable(memory())) as one:
            claim = one.registry.claim
            found = [
                await claim("k", "d", pipeline=pipeline, caller=caller)
                for pipeline in ("speech", "other")
                for caller in (ACME, Caller("beta", "ann"), Caller(user="acme"))
            ]
            assert all(isinstance(each, NewClaim) for each in found)

    virtual(main)
    assert claim_key(Caller("a"), "bc", "d") != claim_key(Caller("ab"), "c", "d")
    assert digest_of(b"a", b"bc") != digest_of(b"ab", b"c")


def test_a_key_that_came_with_another_request_is_told_apart() -> None:
    async def main() -> None:
        state = memory()
        async with process(Cable(state)) as one, process(Cable(state)) as other:
            mine = await one.registry.claim("k", "d", pipeline="speech", caller=ACME)
            assert isinstance(mine, NewClaim)
            one.registry.adopt(one.start([(1.0, "x")], run_id=mine.run_id))
            for registry in (one.registry, other.registry):
                again = await registry.claim("k", "e", pipeline="speech", caller=ACME)
                assert again == ConflictingClaim(mine.run_id)

    virtual(main)


@pytest.mark.parametrize("begun", [True, False])
def test_a_claim_whose_process_died_blocks_nobody(*, begun: bool) -> None:
    """Before the run had begun, the next one starts it; behind that, its failure is told."""

    async def main() -> None:
        state = memory()
        dying = Cable(state)
        async with process(dying) as one, process(Cable(state)) as other:
            mine = await one.registry.claim("k", "d", pipeline="speech", caller=ACME)
            assert isinstance(mine, NewClaim)
            one.registry.adopt(one.start([(1000.0, "x")], run_id=mine.run_id))
            if begun:
                await trio.sleep(0.2)
            dying.cut = True
            await trio.sleep(10.0)
            again = await other.registry.claim("k", "d", pipeline="speech", caller=ACME)
            if begun:
                assert again == ExistingClaim(mine.run_id)
                record = await other.registry.get(mine.run_id)
                assert record is not None
                assert record.lost
            else:
                assert isinstance(again, NewClaim)
                assert again.run_id != mine.run_id

    virtual(main)


def test_two_who_take_over_a_dead_claim_start_one_run() -> None:
    async def main() -> None:
        state = memory()
        dying, started, answers = Cable(state), list[str](), list[str]()
        async with (
            process(dying) as one,
            process(Cable(state)) as second,
            process(Cable(state)) as third,
        ):
            mine = await one.registry.claim("k", "d", pipeline="speech", caller=ACME)
            assert isinstance(mine, NewClaim)
            dying.cut = True
            await trio.sleep(10.0)
            client = Client([second, third], started)

            async def send(asked: int) -> None:
                answers.append(await client.send(Sender(0.0, (asked,), 0)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, 0)
                nursery.start_soon(send, 1)
            assert answers == started * 2
            await one.registry.unclaim(mine)

    for schedule in range(10):
        virtual(main, schedule=schedule)


def test_a_key_stands_for_its_run_as_long_as_is_said() -> None:
    async def main() -> None:
        async with process(Cable(memory()), RunsSettings(idempotency_s=100.0)) as one:
            mine = await one.registry.claim("k", "d", pipeline="speech", caller=ACME)
            assert isinstance(mine, NewClaim)
            one.registry.adopt(one.start([(0.0, "x")], run_id=mine.run_id))
            await trio.sleep(99.0)
            again = await one.registry.claim("k", "d", pipeline="speech", caller=ACME)
            assert again == ExistingClaim(mine.run_id)
            await trio.sleep(2.0)
            again = await one.registry.claim("k", "d", pipeline="speech", caller=ACME)
            assert isinstance(again, NewClaim)
            await one.registry.unclaim(again)

    virtual(main)


def test_an_organisations_keys_are_bounded_in_memory_and_take_nothing_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idempotency, "KEYS_MAX", 20)

    async def main() -> None:
        async with process(Cable(memory())) as one:

            async def runs(tenant: str, keys: range) -> list[str]:
                found = []
                for number in keys:
                    caller = Caller(tenant, "ann")
                    claimed = await one.registry.claim(
                        f"k{number}", "d", pipeline="speech", caller=caller
                    )
                    assert isinstance(claimed, NewClaim | ExistingClaim)
                    if isinstance(claimed, NewClaim):
                        one.registry.adopt(one.start([(0.0, "x")], run_id=claimed.run_id))
                    found.append(claimed.run_id)
                return found

            others = await runs("beta", range(20))
            mine = await runs("acme", range(100))
            assert await runs("acme", range(80, 100)) == mine[80:]
            assert await runs("beta", range(20)) == others
            assert await runs("acme", range(1)) != mine[:1]

    virtual(main)


def test_where_the_state_is_away_nothing_is_claimed() -> None:
    async def main() -> None:
        cable = Cable(memory())
        async with process(cable) as one:
            cable.cut = True
            with pytest.raises(StateError):
                await one.registry.claim("k", "d", pipeline="speech", caller=ACME)
            cable.cut = False
            await trio.sleep(2.0)  # what may have been claimed is given back
            again = await one.registry.claim("k", "d", pipeline="speech", caller=ACME)
            assert isinstance(again, NewClaim)
            await one.registry.unclaim(again)

    virtual(main)


@pytest.mark.parametrize("left", [True, False])
def test_a_key_that_cannot_be_given_back_now_is_given_back_soon(*, left: bool) -> None:
    """Since its client has left, or the state is away."""

    async def main() -> None:
        state = memory()
        cable = Cable(state)
        async with process(cable) as one, process(Cable(state)) as other:
            mine = await one.registry.claim("k", "d", pipeline="speech", caller=ACME)
            assert isinstance(mine, NewClaim)
            cable.cut = not left
            with trio.CancelScope() as client:
                if left:
                    client.cancel()
                await one.registry.unclaim(mine)
            assert client.cancelled_caught == left
            cable.cut = False
            await trio.sleep(2.0)
            again = await other.registry.claim("k", "d", pipeline="speech", caller=ACME)
            assert isinstance(again, NewClaim)
            await other.registry.unclaim(again)

    virtual(main)


def test_a_claim_whose_answer_was_lost_is_given_back() -> None:
    """It was made, and whoever made it does not know: the next one starts the run, anywhere."""

    async def main() -> None:
        state = memory()
        cable = Cable(state)
        async with process(cable) as one, process(Cable(state)) as other:
            cable.deaf = True
            with pytest.raises(StateError):
                await one.registry.claim("k", "d", pipeline="speech", caller=ACME)
            cable.deaf = False
            began_s = trio.current_time()
            again = await other.registry.claim("k", "d", pipeline="speech", caller=ACME)
            assert isinstance(again, NewClaim)
            assert trio.current_time() - began_s < 2.0
            await other.registry.unclaim(again)

    virtual(main)
