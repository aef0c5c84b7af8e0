"""Portals: from whichever threads and loops, each gets its own answer, and nothing goes on behind it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import orchestra
from orchestra import Context, Stream, chars, fallback, injected, open_portal, pipeline, step
from orchestra.accounts import Caller
from orchestra.errors import (
    CheckError,
    ConfigError,
    DeadlineError,
    InputError,
    RunCancelledError,
    RunError,
    StepFailedError,
)
from orchestra.events import Delta, Event, RunFinished, RunStarted, StepStarted
from orchestra.portal.following import Following
from orchestra.portal.portal import Portal
from tests.cli.conftest import ROOT
from tests.patience import PATIENCE_S

TALK: list[str] = []
"""What steps have done; a test that reads it empties it first."""
BEGUN = threading.Event()


@step
async def double(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * number


@step
async def count(most: int) -> AsyncIterator[str]:
    try:
        for number in range(most):
            TALK.append(str(number))
            yield f"{number} "
    finally:
        TALK.append("ended")


@step
async def wait(number: int) -> int:
    BEGUN.set()
    try:
        await trio.Event().wait()
    finally:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
        TALK.append("ended")
    return number


@step
async def fail(number: int) -> int:
    if number >= 0:
        raise ZeroDivisionError(f"no {number}")
    return number


@step
async def told(number: int, *, context: Context = injected) -> str:
    return f"{number} for {context.caller.user}"


@step
async def broken(number: int) -> AsyncIterator[str]:
    yield "void"
    raise ZeroDivisionError(number)


@pipeline
def doubled(number: int) -> int:
    return double(number)


@pipeline
def counted(most: int) -> Stream[str]:
    return count(most)


@pipeline
def waited(number: int) -> int:
    return wait(number)


@pipeline
def failed(number: int) -> int:
    return fail(number)


@pipeline
def named(number: int) -> str:
    return told(number)


@pipeline
def restarted(number: int) -> Stream[str]:
    return fallback(broken(number), count(number), commit=chars(1), restart=True)


@pipeline
def wrong(number: str) -> int:
    return double(number)  # type: ignore[arg-type]


@pytest.fixture
def portal() -> Iterator[Portal]:
    BEGUN.clear()
    TALK.clear()
    with open_portal() as made:
        yield made
        assert not made.engine.runs
    assert not [each for each in threading.enumerate() if each.name == "orchestra-portal"]


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["run", "arun", "stream", "astream", "cancel", "fail"]), st.integers(0, 9)
    ),
    max_size=6,
)


def acted(portal: Portal, act: str, number: int) -> None:
    """Do one thing, and see that what comes of it is its own."""
    if act == "run":
        assert portal.run(doubled, number) == 2 * number
    elif act == "arun":
        assert asyncio.run(portal.arun(doubled, number=number)) == 2 * number
    elif act == "stream":
        with portal.stream(counted, 9) as chunks:
            assert [next(chunks) for _ in range(number)] == [f"{at} " for at in range(number)]
    elif act == "astream":
        assert asyncio.run(said(portal, number)) == [f"{at} " for at in range(number)]
    elif act == "cancel":
        asyncio.run(stopped(portal, number))
    else:
        with pytest.raises(ZeroDivisionError, match=f"no {number}"):
            portal.run(failed, number)


async def said(portal: Portal, number: int) -> list[str]:
    async with portal.stream(counted, number) as chunks:
        return [each async for each in chunks]


async def stopped(portal: Portal, number: int) -> None:
    task = asyncio.create_task(portal.arun(waited, number))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.lists(ACTS, min_size=1, max_size=4))
def test_whoever_asks_at_once_gets_their_own_and_leaves_nothing(
    acts: list[list[tuple[str, int]]],
) -> None:
    failures: list[BaseException] = []

    def work(portal: Portal, mine: list[tuple[str, int]]) -> None:
        try:
            for act, number in mine:
                acted(portal, act, number)
        except BaseException as error:
            failures.append(error)

    with open_portal() as portal:
        threads = [threading.Thread(target=work, args=(portal, mine)) for mine in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert not portal.engine.runs
    if failures:
        raise failures[0]


def test_a_task_that_is_cancelled_waits_until_its_run_has_ended(portal: Portal) -> None:
    async def main() -> None:
        task = asyncio.create_task(portal.arun(waited, 1))
        await asyncio.to_thread(BEGUN.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert TALK == ["ended"]

    asyncio.run(main())


def test_the_loop_goes_on_while_it_waits(portal: Portal) -> None:
    async def main() -> None:
        ticks = 0
        task = asyncio.create_task(portal.arun(waited, 1))
        while not BEGUN.is_set() or ticks < 10:
            await asyncio.sleep(0)
            ticks += 1
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.gather(*[portal.arun(doubled, n) for n in range(9)]) == [
                2 * n for n in range(9)
            ]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_control_c_ends_the_run_before_it_goes_on(portal: Portal) -> None:
    def interrupt() -> None:
        BEGUN.wait()
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            portal.run(waited, 1)
        assert TALK == ["ended"]
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()


def test_who_reads_slowly_holds_the_run_back_and_who_leaves_ends_it(portal: Portal) -> None:
    with portal.stream(counted, 10**6) as chunks:
        assert [next(chunks), next(chunks)] == ["0 ", "1 "]
        assert chunks.run_id in portal.engine.runs
    assert TALK[-1] == "ended"
    assert len(TALK) < 1_000


def test_a_second_reader_is_refused_and_takes_nothing_from_the_first(portal: Portal) -> None:
    """Two would each get the events that arrive while both wait."""

    async def two_tasks() -> None:
        async with portal.events(waited, 1) as events:
            assert isinstance(await anext(events), RunStarted)
            first = asyncio.create_task(ends(events))
            await asyncio.sleep(0)
            with pytest.raises(RunError, match=r"another task or thread .* a queue"):
                await anext(events)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first

    async def ends(events: Following[Event]) -> None:
        async for each in events:
            assert not isinstance(each, RunFinished)

    asyncio.run(two_tasks())


def test_who_reads_while_another_task_leaves_the_block_is_told_so(portal: Portal) -> None:
    async def read_on(events: Following[Event]) -> NoReturn:
        while True:
            assert not isinstance(await anext(events), RunFinished)

    async def main() -> None:
        async with portal.events(waited, 1) as events:
            while not isinstance(await anext(events), StepStarted):
                pass
            reading = asyncio.create_task(read_on(events))
            assert await portal.arun(doubled, 1) == 2  # meanwhile, the other task begins to wait
        with pytest.raises(RunError, match="only inside its block"):
            await reading

    asyncio.run(main())


def test_who_is_stopped_while_it_begins_to_follow_leaves_no_run(portal: Portal) -> None:
    """The block was never entered, so that it is not left either."""

    async def follow() -> None:
        async with portal.events(waited, 1):
            raise AssertionError("it was cancelled before")

    async def main() -> None:
        task = asyncio.create_task(follow())
        await asyncio.sleep(0)
        BEGUN.wait()  # the run has begun, and the task has not heard of it
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert TALK == ["ended"]

    asyncio.run(main())


def test_an_error_is_the_steps_own_with_its_line(portal: Portal) -> None:
    with pytest.raises(ZeroDivisionError, match="no 3") as caught:
        portal.run(failed, 3)
    assert caught.traceback[-1].name == "fail"
    assert "in step 'fail' of pipeline 'failed', called at" in caught.value.__notes__[0]
    with pytest.raises(CheckError, match="pipeline 'wrong' has 1 problem"):
        portal.run(wrong, "x")
    with pytest.raises(InputError, match="number"):
        portal.run(doubled, "x")  # type: ignore[call-overload]
    with pytest.raises(InputError):
        portal.stream(counted, "x").__enter__()  # type: ignore[arg-type]


def test_a_caller_and_a_deadline_are_those_that_are_used(portal: Portal) -> None:
    assert portal.using(caller=Caller("acme", "ada")).run(named, 1) == "1 for ada"
    assert portal.run(named, 1) == "1 for "
    with pytest.raises(DeadlineError, match="deadline_s=0"):
        portal.using(deadline_s=0).run(waited, 1)
    with portal.using(tags={"team": "search"}).events(counted, 1) as events:
        started = next(iter(events))
    assert isinstance(started, RunStarted)
    assert started.tags == {"team": "search"}


def test_events_are_those_of_the_journal(portal: Portal) -> None:
    with portal.events(counted, 2) as events:
        found = list(events)
    assert [each.seq for each in found] == list(range(1, len(found) + 1))
    assert (type(found[0]), type(found[-1])) == (RunStarted, RunFinished)
    assert [each.chunk for each in found if isinstance(each, Delta)] == ["0 ", "1 "]


def test_chunks_that_are_void_are_not_given_on_in_silence(portal: Portal) -> None:
    with (
        portal.stream(restarted, 2) as chunks,
        pytest.raises(RunError, match=r"arm\.restarted: the output"),
    ):
        list(chunks)
    with portal.events(restarted, 2) as events:
        assert "arm.restarted" in [each.type for each in events]


def test_what_would_wait_for_itself_is_refused(portal: Portal) -> None:
    async def in_asyncio() -> None:
        with pytest.raises(RunError, match=r"block the event loop.*await portal\.arun"):
            portal.run(doubled, 1)
        with pytest.raises(RunError, match=r"block the event loop.*async with portal\.stream"):
            portal.stream(counted, 1).__enter__()
        with pytest.raises(RunError, match=r"block the event loop.*async with portal\.events"):
            portal.events(counted, 1).__enter__()

    async def in_trio() -> None:
        asked: list[Callable[[], object]] = [
            lambda: portal.run(doubled, 1),
            portal.stream(counted, 1).__enter__,
            open_portal().__enter__,
        ]
        for ask in asked:
            with pytest.raises(RunError, match="do not use Trio, but Trio is running here"):
                ask()
        with pytest.raises(RunError, match=r"in a step, write `await context\.run\(pipeline"):
            portal.run(doubled, 1)

    asyncio.run(in_asyncio())
    trio.run(in_trio)
    with pytest.raises(RunError, match=r"returns a value, not a stream: write portal\.run"):
        portal.stream(doubled, 1).__enter__()  # type: ignore[arg-type]
    chunks = portal.stream(counted, 1)
    with pytest.raises(RunError, match="followed only inside its block"):
        next(chunks)
    with chunks:
        assert list(chunks) == ["0 "]
    with pytest.raises(RunError, match="followed only inside its block"):
        portal.stream(counted, 1).__next__()
    with pytest.raises(RunError, match="followed only once"), chunks:
        pass


def test_a_step_in_a_thread_does_not_wait_for_another_run_of_its_portal(portal: Portal) -> None:
    """Forty of them at once would hold the threads that they wait for; `context.run` lends them."""

    @step(thread=True)
    def slowly(number: int) -> int:
        return number + 1

    @pipeline
    def inner(number: int) -> int:
        return slowly(number)

    @step(thread=True)
    def asks(number: int, *, context: Context = injected) -> int:
        with pytest.raises(RunError, match="also with thread=True"):
            portal.run(inner, number)
        with pytest.raises(RunError, match="also with thread=True"):
            asyncio.run(portal.arun(inner, number))

        async def lent() -> int:
            return await context.run(inner, number)

        return trio.from_thread.run(lent)

    @pipeline
    def outer(number: int) -> int:
        return asks(number)

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(lambda number: portal.run(outer, number), range(50))) == list(
            range(1, 51)
        )


def test_a_portal_that_is_not_open_or_of_another_process_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unopened = open_portal()
    with pytest.raises(RunError, match="the portal is closed"):
        unopened.run(doubled, 1)
    with open_portal() as portal:
        with pytest.raises(RunError, match="opened only once"):
            portal.__enter__()
        pid = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)
        with pytest.raises(RunError, match="before this process was forked"):
            portal.run(doubled, 1)
        monkeypatch.undo()
    with pytest.raises(RunError, match="the portal is closed"):
        portal.run(doubled, 1)
    with pytest.raises(RunError, match="the portal is closed"):
        asyncio.run(portal.arun(doubled, 1))


def test_closing_ends_the_runs_of_others() -> None:
    BEGUN.clear()
    found: list[BaseException] = []

    def ask() -> None:
        try:
            opened.run(waited, 1)
        except RunCancelledError as error:
            found.append(error)

    with open_portal() as opened:
        thread = threading.Thread(target=ask)
        thread.start()
        BEGUN.wait()
    thread.join(PATIENCE_S)
    assert [str(each) for each in found] == ["the run was cancelled: the engine was closed"]


@pytest.mark.parametrize("stops", [KeyboardInterrupt, pytest.skip.Exception, SystemExit])
def test_what_would_stop_the_process_ends_only_the_run_that_raises_it(
    portal: Portal, stops: type[BaseException]
) -> None:
    """In a portal's thread, none of these is Ctrl-C or the outcome of a test."""

    @step
    async def stop(number: int) -> int:
        raise stops(f"no {number}")

    @pipeline
    def stopped(number: int) -> int:
        return stop(number)

    with portal.events(waited, 1) as events:
        with pytest.raises(StepFailedError, match="not an Exception") as raised:
            portal.run(stopped, 1)
        assert [type(each) for each in raised.value.errors] == [stops]
        assert portal.run(doubled, 1) == 2
        assert isinstance(next(events), RunStarted)


def test_a_portal_that_has_failed_refuses_runs_while_it_ends() -> None:
    """A portal that something beside its runs has ended hangs no other thread."""
    goes_on = threading.Event()

    @step
    async def holds(number: int) -> AsyncIterator[str]:
        yield str(number)
        with trio.CancelScope(shield=True):  # so that the engine has not ended yet
            await trio.to_thread.run_sync(goes_on.wait)

    @step
    async def ends_trio(number: int) -> int:
        def fail() -> None:
            raise ZeroDivisionError

        trio.lowlevel.current_trio_token().run_sync_soon(fail)
        await trio.sleep_forever()

    @pipeline
    def held(number: int) -> Stream[str]:
        return holds(number)

    @pipeline
    def ended(number: int) -> int:
        return ends_trio(number)

    refused: list[str] = []

    def use() -> None:
        with suppress(RunError), open_portal() as portal, portal.stream(held, 1) as chunks:
            assert next(chunks) == "1"
            for act in (ended, *[doubled] * 20):  # the nursery of its calls ends meanwhile
                try:
                    portal.run(act, 1)
                except RunError as error:
                    refused.append(str(error))
            goes_on.set()

    using = threading.Thread(target=use, daemon=True)  # pytest's thread is not to hang
    using.start()
    using.join(PATIENCE_S)
    assert not using.is_alive(), "a call to the portal hangs"
    assert len(refused) == 21
    assert "the portal is closed" in refused[-1]


def test_in_asyncio_it_is_opened_and_closed_without_holding_the_loop_up() -> None:
    async def main() -> int:
        async with open_portal() as portal:
            return await portal.arun(doubled, 4)

    assert asyncio.run(main()) == 8


def test_it_is_closed_also_where_all_threads_of_the_loop_wait_for_its_runs() -> None:
    """Those end when it is closed: to close it must not wait for one of them."""

    async def main() -> None:
        BEGUN.clear()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        async with open_portal() as portal:
            asked = loop.run_in_executor(None, portal.run, waited, 1)
            while not BEGUN.is_set():  # noqa: ASYNC110 - it is set in another thread
                await asyncio.sleep(0.001)
            late = partial(portal.engine.cancel_all, "it was not closed")
            loop.call_later(PATIENCE_S, portal._opened.result().call_soon, late)
        with pytest.raises(RunCancelledError, match="the engine was closed"):
            await asked

    asyncio.run(main())


def test_a_task_that_is_cancelled_while_it_leaves_has_closed_it_all_the_same() -> None:
    portal = open_portal()

    async def leave() -> None:
        async with portal:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(leave())
    assert portal._thread is not None
    portal._thread.join(PATIENCE_S)
    with pytest.raises(RunError, match="the portal is closed"):
        portal.run(doubled, 1)


def test_a_task_that_is_cancelled_while_it_enters_has_closed_it_all_the_same() -> None:
    portal = open_portal()

    async def main() -> None:
        entering = asyncio.create_task(portal.__aenter__())
        await asyncio.sleep(0)
        if not entering.cancel():  # the portal's thread was faster, so there is nothing to cancel
            return await portal.__aexit__()
        with pytest.raises(asyncio.CancelledError):
            await entering
        return None

    asyncio.run(main())
    assert portal._thread is not None
    portal._thread.join(PATIENCE_S)
    assert not portal._thread.is_alive()


def test_a_loop_that_is_closed_meanwhile_troubles_nobody(
    portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.new_event_loop()
    task = loop.create_task(portal.arun(waited, 1))
    while not BEGUN.is_set():
        loop.run_until_complete(asyncio.sleep(0))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    engine = portal.engine
    assert portal._opened.result().call_soon(lambda: engine.cancel_all("the test is over"))
    assert portal.run(doubled, 1) == 2
    assert not caplog.records
    task.get_coro().close()


def test_what_is_wrong_with_the_configuration_is_told_where_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("orchestra.toml").write_text("[models.x]\nprovider = 'nobody'\n", "utf-8")
    with pytest.raises(ConfigError, match="nobody"), open_portal():
        pass


LEFT_OPEN = """
    import threading
    from contextlib import suppress
    import orchestra, trio
    from orchestra import pipeline, step
    from orchestra.errors import RunCancelledError

    begun = threading.Event()

    @step
    async def wait(number: int) -> int:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            print("ended")
        return number

    @pipeline
    def waited(number: int) -> int:
        return wait(number)

    def ask() -> None:
        with suppress(RunCancelledError):
            portal.run(waited, 1)

    portal = orchestra.open_portal().__enter__()
    threading.Thread(target=ask, daemon=True).start()
    begun.wait()
"""


def test_a_program_that_ends_without_closing_it_ends_quietly(tmp_path: Path) -> None:
    program = tmp_path / "left_open.py"
    program.write_text(textwrap.dedent(LEFT_OPEN), "utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-W", "error", str(program)]
    ran = subprocess.run(words, env=env, capture_output=True, timeout=PATIENCE_S, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"ended\n", b"")


def test_the_front_door_gives_it() -> None:
    opened: Callable[..., object] = orchestra.open_portal
    assert opened is open_portal
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = orchestra.nothing  # type: ignore[attr-defined]
