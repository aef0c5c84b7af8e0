"""Groups, opened: every error in one is told or goes on, and none is lost."""

from __future__ import annotations

import asyncio
import logging
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import closing
from typing import Any, cast

import outcome
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.errors import StopTest

from orchestra.errors import StepFailedError
from orchestra.graph.calls.raised import advice_on, message_of
from orchestra.graph.steps import step
from orchestra.groups import contained, in_order, lasting, leaves, single, split, stopping
from orchestra.protocols import injected
from orchestra.providers.extractive.model import ExtractiveModel
from orchestra.testing.strategies import schedules
from orchestra.testing.virtual import virtual
from orchestra.values import Message
from tests.engine.steps import Panic


def cancelled() -> trio.Cancelled:
    """A real one: they cannot be made."""

    kept: list[trio.Cancelled] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                kept.append(error)
                raise

    virtual(main)
    return kept[0]


CANCELLED = cancelled()

OWN: tuple[type[BaseException], ...] = (
    ValueError,
    KeyError,
    SystemExit,
    GeneratorExit,
    CancelledError,
    Panic,
)
"""What fails the run of the step that raises it, and nobody else's."""
STOPS: tuple[type[BaseException], ...] = (
    KeyboardInterrupt,
    pytest.skip.Exception,
    pytest.fail.Exception,
    StopTest,
)
"""What stops the process, or the test."""

alone = st.sampled_from([*OWN, *STOPS]).map(lambda error: error("x"))
errors: st.SearchStrategy[BaseException] = st.recursive(
    alone | st.just(CANCELLED),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(
        lambda errors: BaseExceptionGroup("group", errors)
    ),
    max_leaves=8,
)


@given(errors)
def test_what_is_raised_is_the_steps_own_or_goes_on_and_nothing_is_lost(
    error: BaseException,
) -> None:
    own, onward = split(error)
    told = list(own.errors) if isinstance(own, StepFailedError) else [own] if own else []
    on = leaves(onward) if onward is not None else []
    whole = leaves(error)
    assert told == [leaf for leaf in whole if isinstance(leaf, OWN)]
    assert on == [leaf for leaf in whole if not isinstance(leaf, OWN)]
    assert not isinstance(own, BaseExceptionGroup), "nobody outside ever sees a group of errors"


@given(errors)
def test_what_stops_the_process_is_found_however_deep_it_is(error: BaseException) -> None:
    stops = [e for e in leaves(error) if isinstance(e, STOPS)]
    assert stopping(error) is (stops[0] if stops else None)


@given(errors)
def test_what_is_contained_raises_only_what_goes_on(error: BaseException) -> None:
    own, onward = split(error)
    said = list[object]()

    class Said(logging.Logger):
        def exception(self, msg: object, *told: object, **_: Any) -> None:
            said.append(str(msg) % told)

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()  # so that a `Cancelled` has somewhere to go
            ended = await outcome.acapture(contained, fails, Said("test"), "it failed")
        raised = leaves(ended.error) if isinstance(ended, outcome.Error) else []
        assert raised == (leaves(onward) if onward is not None else [])
        if onward is None:
            assert ended.unwrap() is (own is None)

    async def fails() -> None:
        raise error

    virtual(main)
    assert said == ([f"it failed: {message_of(own)}"] if own is not None else [])


def test_what_lasts_is_begun_again_until_it_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[float] = []

    async def fails() -> None:
        begun.append(trio.current_time())
        await trio.sleep(1.0)
        raise Panic("x")

    async def main() -> None:
        with trio.move_on_after(3.5):
            await lasting(fails, logging.getLogger("test"), "it failed")

    virtual(main)
    assert begun == [0.0, 1.5, 3.0]
    assert len(caplog.records) == 2


def test_nothing_stops_where_nothing_was_raised() -> None:
    assert stopping(None) is None


def test_one_error_in_a_group_is_the_error_itself_and_several_are_listed() -> None:
    one, other = ValueError("one"), KeyError("other")
    assert single(ExceptionGroup("", [ExceptionGroup("", [one])])) is one
    group = ExceptionGroup("", [one, ExceptionGroup("", [other])])
    both = single(group)
    assert isinstance(both, StepFailedError)
    assert both.errors == (one, other)
    assert both.__cause__ is group
    assert str(both) == "2 errors at once:\n  ValueError: one\n  KeyError: 'other'"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (RuntimeError("no running event loop"), "write trio.sleep for asyncio.sleep"),
        (
            RuntimeError("There is no current event loop in thread 'MainThread'."),
            "write trio.sleep",
        ),
        (TypeError("trio.run received unrecognized yield message <x>"), "write trio.sleep"),
        (RuntimeError("Attempted to call run() from inside a run()"), "call the other pipeline in"),
    ],
)
def test_errors_of_others_that_do_not_say_what_to_write_are_told_with_it(
    error: Exception, advice: str
) -> None:
    assert advice in (advice_on(error) or "")
    assert message_of(error).startswith(f"{error}; ")
    assert advice_on(RuntimeError("else")) is advice_on(ValueError(str(error))) is None


@pytest.mark.parametrize("asked", ["Why?", [Message("user", "Why?")], Message("user", "Why?")])
def test_a_model_that_is_given_a_plain_text_says_what_it_takes(asked: Any) -> None:
    with pytest.raises(AttributeError) as caught:
        trio.run(ExtractiveModel(cast("Any", None)).complete, asked)
    assert "a model takes a ChatRequest: write `ChatRequest(" in message_of(caught.value)
    with pytest.raises(AttributeError) as own:
        asked.messages  # noqa: B018 - code of a user's own
    assert advice_on(own.value) is None


def test_a_step_whose_function_is_called_says_that_it_wants_a_context() -> None:
    with pytest.raises(AttributeError) as caught:
        injected.model("smart")
    assert "pass on your own step's, `context=context`" in message_of(caught.value)


@step(thread=True)
def blocks() -> str:
    return "done"


def test_a_step_that_awaits_a_function_of_a_thread_says_how_to_call_it() -> None:
    """In the words of every Python: they differ."""

    @step
    async def asks() -> str:
        return await blocks.call()  # type: ignore[misc]  # the mistake

    with pytest.raises(TypeError) as caught:
        trio.run(asks.call)
    assert "write `await trio.to_thread.run_sync(f.call, ...)`" in message_of(caught.value)
    later = TypeError("'str' object can't be awaited")
    assert advice_on(later) == advice_on(caught.value)
    assert advice_on(TypeError("'str' object is not callable")) is None


async def future() -> None:
    await asyncio.Queue[int]().get()


async def bound() -> None:
    async with asyncio.Semaphore(0):
        raise AssertionError("nobody lets it in")


async def waiting() -> None:
    given = future()
    with closing(given):
        await asyncio.wait([given])  # type: ignore[type-var]


async def released() -> None:
    asyncio.Lock().release()


@pytest.mark.parametrize("used", [asyncio.Event().wait, asyncio.sleep, future, bound, waiting])
def test_what_of_asyncio_fails_in_its_own_code_is_told_with_what_to_write(
    used: Callable[..., Awaitable[object]],
) -> None:
    """Most of asyncio works on Trio until it has to wait, and then fails in words of its own."""
    with pytest.raises((AttributeError, RuntimeError, TypeError)) as caught:
        trio.run(used, *[1] * (used is asyncio.sleep))
    assert "write trio.sleep for asyncio.sleep" in (advice_on(caught.value) or "")


@pytest.mark.parametrize("used", [waiting, released])
def test_where_a_loop_of_asyncios_runs_its_errors_are_no_matter_of_trios(
    used: Callable[[], Coroutine[object, object, None]],
) -> None:
    """As in `asyncio.run` in a step with `thread=True`."""
    with pytest.raises((RuntimeError, TypeError)) as caught:
        asyncio.run(used())
    assert advice_on(caught.value) is None


def test_an_error_that_cannot_be_printed_still_has_a_message() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise self.args[0]

    said = "(RuntimeError while it was asked for its message)"
    assert message_of(BrokenError(RuntimeError())) == said
    assert (
        single(Panic(BrokenError(Panic())))
        .args[0]
        .startswith("it raised something that is not an Exception")
    )
    assert message_of(BrokenError(Panic())) == "(Panic while it was asked for its message)"
    assert "(Panic while" in str(StepFailedError("several:", [BrokenError(Panic())]))
    assert message_of(ValueError("words")) == "words"
    with pytest.raises(KeyboardInterrupt):
        message_of(BrokenError(KeyboardInterrupt()))


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=9),
    st.integers(1, 4),
    schedules(),
)
def test_what_is_done_at_once_comes_in_order_or_fails_as_the_first_that_failed(
    items: list[tuple[int, bool]], at_once: int, schedule: int
) -> None:
    running, most, failed = set[int](), 0, list[Exception]()

    async def act(at: int) -> int:
        nonlocal most
        running.add(at)
        most = max(most, len(running))
        try:
            lasts_s, fails = items[at]
            await trio.sleep(lasts_s)
            if fails:
                failed.append(ValueError(at))
                raise failed[-1]
            return at
        finally:
            running.remove(at)

    async def main() -> None:
        places = range(len(items))
        if any(fails for _, fails in items):
            with pytest.raises(ValueError) as caught:  # noqa: PT011 - it is compared below
                await in_order(act, places, at_once)
            assert caught.value is failed[0]
        else:
            assert await in_order(act, places, at_once) == list(places)
        assert not running
        assert most <= at_once

    virtual(main, schedule=schedule)


def test_all_are_cancelled_together() -> None:
    begun: list[int] = []

    async def act(at: int) -> None:
        begun.append(at)
        await trio.sleep_forever()

    async def main() -> None:
        with trio.move_on_after(1) as patience:
            await in_order(act, range(5), 2)
        assert patience.cancelled_caught
        assert sorted(begun) == [0, 1]

    virtual(main)


def test_nothing_is_begun_after_one_has_failed() -> None:
    """Also where nothing waits, so that no cancellation would come between."""
    begun: list[int] = []

    async def act(at: int) -> None:
        begun.append(at)
        raise ValueError(at)

    async def main() -> None:
        with pytest.raises(ValueError, match="0"):
            await in_order(act, range(5), 1)

    virtual(main)
    assert begun == [0]
