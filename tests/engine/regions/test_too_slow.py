"""`on=TimeoutError` takes what `trio.fail_after` raises, which is no `TimeoutError`."""

from __future__ import annotations

import pytest
import trio

from orchestra import Policy, Retry, fallback, pipeline, step
from orchestra.events import StepFailed, StepRetried
from orchestra.policies.retry import is_retryable
from orchestra.testing.simulate import simulate


@step
async def late(number: int) -> int:
    with trio.fail_after(1):
        await trio.sleep(2)
    return number


@pipeline
def timed_out(number: int) -> int:
    return fallback(late(number), -1, on=TimeoutError)


@pipeline
def refused(number: int) -> int:
    return fallback(late(number), -1, on=LookupError)


@pipeline
def insistent(number: int) -> int:
    return late.using(Policy(retry=Retry(attempts_max=3, on=(TimeoutError,))))(number)


def test_a_fallback_goes_on_after_it() -> None:
    assert simulate(timed_out, number=1).result() == -1
    with pytest.raises(trio.TooSlowError):
        simulate(refused, number=1).result()


def test_where_nobody_takes_it_it_says_what_it_is() -> None:
    """It has no words of its own, and `except TimeoutError` around it has let it pass."""
    ran = simulate(refused, number=1)
    failed = next(event for event in ran.events if isinstance(event, StepFailed))
    assert failed.message.startswith("the deadline of a trio.fail_after has passed, which is not a")
    with pytest.raises(trio.TooSlowError) as caught:
        ran.result()
    assert any("write `except trio.TooSlowError`" in note for note in caught.value.__notes__)


def test_a_retry_tries_again_after_it() -> None:
    ran = simulate(insistent, number=1)
    assert [event.attempt for event in ran.events if isinstance(event, StepRetried)] == [1, 2]


@pytest.mark.parametrize(
    ("on", "taken"), [((TimeoutError,), True), ((), False), ((OSError,), False)]
)
def test_it_is_taken_where_it_is_asked_for(on: tuple[type[Exception], ...], *, taken: bool) -> None:
    assert is_retryable(Retry(attempts_max=2, on=on), trio.TooSlowError()) is taken
