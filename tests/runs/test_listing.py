"""The list of a tenant's runs: newest first, whole, and the same from page to page."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.accounts import Caller
from orchestra.engine.engine import open_engine
from orchestra.protocols import Entry
from orchestra.runs import index
from orchestra.runs.record import Record
from orchestra.runs.registry import SCANNED_MAX, Registry, open_registry
from orchestra.runs.settings import RunsSettings
from orchestra.testing.virtual import virtual
from tests.runs.processes import ACME, Cable, Process, memory, process

HEAD = "run:index:x"


def kept(there: dict[str, bytes], ids: Sequence[str]) -> None:
    """Append to an index that is kept in a dict."""
    entries: dict[str, Entry | None] = index.append(HEAD, there.get(HEAD), ids, 1.0)
    for key, entry in entries.items():
        if entry is None:
            there.pop(key, None)
        else:
            there[key] = entry.data


def everything(there: dict[str, bytes]) -> list[tuple[int, str]]:
    page = index.read(there.get(HEAD))
    found: list[tuple[int, str]] = []
    while page is not None:
        found += index.before(page, None)
        page = index.read(there.get(index.page_key(HEAD, page.number - 1)))
    return found


@settings(max_examples=40)
@given(st.lists(st.integers(1, 300), max_size=12))
def test_an_index_holds_the_newest_in_order_under_places_that_stay(batches: list[int]) -> None:
    there: dict[str, bytes] = {}
    model: list[str] = []
    for batch in batches:
        ids = [f"{len(model) + number:032x}" for number in range(batch)]
        kept(there, ids)
        model += ids
    assert everything(there) == [*enumerate(model)][::-1]
    assert all(len(data) < 6_000 for data in there.values())


def test_an_index_has_a_bound() -> None:
    there: dict[str, bytes] = {}
    for number in range((index.PAGES_MAX + 5) * index.PAGE):
        kept(there, [f"{number:x}"])
    assert len(there) == index.PAGES_MAX + 1


def test_a_run_that_is_noted_twice_is_in_the_index_once() -> None:
    there: dict[str, bytes] = {}
    for _ in range(2):
        kept(there, ["a", "b"])
    assert everything(there) == [(1, "b"), (0, "a")]


def test_a_start_whose_answer_was_lost_is_listed_once_however_many_came_in_between() -> None:
    async def main() -> None:
        state = memory(1 << 24)
        cable = Cable(state)
        async with process(cable) as one, process(Cable(state)) as other:
            run = one.start([(1e3, "x")])
            cable.deaf = True
            one.registry.adopt(run)
            await trio.sleep(0.1)
            ids = await started(other, index.PAGE + 3)
            cable.deaf = False
            await trio.sleep(2.0)
            for registry in (one.registry, other.registry):
                assert await listed(registry, 1_000) == [*ids[::-1], run.id]

    virtual(main)


def test_a_run_that_others_are_told_of_later_stays_in_its_place() -> None:
    async def main() -> None:
        state = memory(1 << 24)
        async with (
            open_registry(state, shared=False, now_s=trio.current_time) as registry,
            open_engine() as engine,
        ):
            one = Process(registry, engine, Cable(state))
            run = one.start([(1e3, "x")])
            registry.adopt(run)
            ids = await started(one, index.PAGE + 3)
            registry.share()
            await trio.sleep(1.0)
            assert await listed(registry, 1_000) == [*ids[::-1], run.id]
            run.cancel("enough")

    virtual(main)


async def started(one: Process, count: int, caller: Caller = ACME) -> list[str]:
    ids = []
    for _ in range(count):
        run = one.start([(0.0, "x")], caller)
        one.registry.adopt(run, readers=0)
        ids.append(run.id)
    await trio.sleep(1.0)
    return ids


async def listed(
    registry: Registry, limit: int, caller: Caller = ACME, *, status: str = ""
) -> list[str]:
    def where(record: Record) -> bool:
        return not status or record.status == status

    ids: list[str] = []
    cursor: int | None = None
    for _ in range(1_000):
        page = await registry.page(caller, limit=limit, cursor=cursor, where=where)
        assert len(page.records) <= limit
        ids += [record.id for record in page.records]
        cursor = page.cursor
        if cursor is None:
            return ids
    raise AssertionError("it never ends")


@pytest.mark.parametrize("limit", [1, 7, 128, 1_000])
def test_pages_make_the_whole_list_newest_first_wherever_runs_ran(limit: int) -> None:
    async def main() -> None:
        state = memory(1 << 24)
        async with process(Cable(state)) as one, process(Cable(state)) as other:
            ids = await started(one, 100)
            ids += await started(other, 60)
            ids += await started(one, 3)
            await started(one, 5, Caller("beta"))
            for registry in (one.registry, other.registry):
                assert await listed(registry, limit) == ids[::-1]

    virtual(main)


def test_what_is_started_meanwhile_changes_nothing_in_pages_to_come() -> None:
    async def main() -> None:
        async with process(Cable(memory(1 << 24))) as one:
            ids = await started(one, 150)
            page = await one.registry.page(ACME, limit=10)
            await started(one, 140)
            rest = await one.registry.page(ACME, limit=1_000, cursor=page.cursor)
            assert [record.id for record in (*page.records, *rest.records)] == ids[::-1]

    virtual(main)


def test_a_list_is_of_those_that_are_asked_for_and_shows_those_that_go_on() -> None:
    async def main() -> None:
        state = memory()
        async with process(Cable(state)) as one, process(Cable(state)) as other:
            await started(one, 3)
            run = one.start([(1e3, "x")])
            await one.registry.adopt_durably(run)
            for registry in (one.registry, other.registry):
                assert await listed(registry, 2, status="running") == [run.id]
                assert len(await listed(registry, 2, status="finished")) == 3

    virtual(main)


@given(st.integers(), st.sampled_from([0.0, 0.1, 0.3]))
def test_a_run_that_has_ended_is_never_listed_as_running(seed: int, lasts_s: float) -> None:
    async def main() -> None:
        async with process(Cable(memory(), Random(seed))) as one:
            run = one.start([(lasts_s, "x")])
            await one.registry.adopt_durably(run)
            for _ in range(30):
                ended = run.ended
                page = await one.registry.page(ACME, limit=5)
                assert not ended or [record.ended for record in page.records] == [True]
                await trio.sleep(0.01)

    virtual(main)


def test_a_list_looks_at_so_many_runs_at_a_time_and_no_more() -> None:
    async def main() -> None:
        async with process(Cable(memory(1 << 24))) as one:
            await started(one, SCANNED_MAX + 10)
            page = await one.registry.page(ACME, limit=5, where=lambda _: False)
            assert (page.records, page.cursor) == ((), 10)

    virtual(main)


def test_nothing_is_listed_that_is_kept_no_longer() -> None:
    async def main() -> None:
        async with process(Cable(memory()), RunsSettings(kept_s=10.0)) as one:
            await started(one, 2)
            await trio.sleep(5.0)
            newer = await started(one, 1)
            await trio.sleep(6.0)
            assert await listed(one.registry, 10) == newer
            await trio.sleep(6.0)
            assert await listed(one.registry, 10) == []

    virtual(main)


def test_a_state_that_is_full_forgets_runs_and_takes_no_more_room() -> None:
    async def main() -> None:
        state = memory(limit_bytes=20_000)
        async with process(Cable(state)) as one:
            ids = await started(one, 200)
            there = await listed(one.registry, 1_000)
            assert 0 < len(there) < 100
            assert there == [run_id for run_id in ids[::-1] if run_id in there]
            assert state._size_bytes <= 20_000

    virtual(main)


def test_a_page_is_small() -> None:
    page = index.Page(7, tuple(f"{number:032x}" for number in range(index.PAGE)))
    assert len(msgspec.msgpack.encode(page)) < 5_000
