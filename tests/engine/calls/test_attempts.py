"""Attempts: a step that fails and works later is one that worked; nothing is said twice."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra import (
    Context,
    Limits,
    Pipeline,
    Policy,
    Retry,
    Stream,
    collect,
    each,
    injected,
    open_engine,
    pipeline,
    race,
    step,
)
from orchestra.accounts import Usage
from orchestra.errors import (
    DeadlineError,
    InvalidRequestError,
    OverloadedError,
    RateLimitError,
    RunCancelledError,
)
from orchestra.events import RunFinished, StepCancelled, StepFailed, StepFinished, StepRetried
from orchestra.testing.laws import check_laws
from orchestra.testing.playing.attempts import AttemptCounter
from orchestra.testing.scripts import Attempts, Fails, Gives, Hangs, Script, Streams
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.strategies import schedules, worlds
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World

BUSY = OverloadedError("busy")
RULE = Retry(attempts_max=3, delay_s=1, delay_max_s=4)


@step
async def ask(n: int, *, policy: Policy = Policy(retry=RULE)) -> str:  # noqa: B008 - a value
    raise AssertionError("it is scripted")


@step
async def say(n: int, *, policy: Policy = Policy(retry=RULE)) -> AsyncIterator[str]:  # noqa: B008
    yield "it is scripted"


@step
async def numbers(n: int) -> list[int]:
    return list(range(n))


@pipeline
def one(n: int) -> str:
    return ask(n, policy=Policy(retry=RULE))


@pipeline
def flow(n: int) -> Stream[str]:
    return say(n, policy=Policy(retry=RULE))


def retries(simulation: Simulation) -> list[StepRetried]:
    return [event for event in simulation.events if isinstance(event, StepRetried)]


def lawful(of: Pipeline[..., object], world: World, **inputs: object) -> Simulation:
    simulation = simulate(of, world, **inputs)
    check_laws(simulation)
    return simulation


jitters = st.integers(0, 16).map(lambda n: n / 16)
rules = st.builds(
    lambda attempts_max, longer: Retry(attempts_max=attempts_max, delay_s=1, delay_max_s=longer),
    st.integers(1, 5),
    st.integers(1, 9),
)


# ------------------------------------------------------------------------------------- the laws


@given(rules, st.integers(0, 6), jitters, schedules(), st.booleans())
def test_a_run_that_was_retried_gives_what_one_gives_that_never_failed(
    rule: Retry, failures: int, jitter: float, schedule: int, streams: bool
) -> None:
    """So many attempts as the rule allows, each after its wait; and every chunk once."""

    @pipeline
    def p(n: int) -> str:
        if streams:
            return collect(say(n, policy=Policy(retry=rule)))
        return ask(n, policy=Policy(retry=rule))

    works: Gives | Streams = Streams(((1, "a"), (1, "b"))) if streams else Gives("ab", 2)
    script = Attempts((*[Fails(BUSY, 1)] * failures, works))
    steps: dict[str, Script] = {"say" if streams else "ask": script}
    run = lawful(p, World(schedule=schedule, jitter=jitter, steps=steps), n=1)
    tried = min(failures, rule.attempts_max - 1)
    waits = [jitter * min(rule.delay_max_s, 2**n) for n in range(tried)]
    assert [(event.attempt, event.delay_s) for event in retries(run)] == [
        (n, wait) for n, wait in enumerate(waits, 1)
    ]
    if failures < rule.attempts_max:
        assert run.value == "ab"
        assert run.lasted_s == failures + sum(waits) + 2
    else:
        assert run.error is BUSY
        assert run.lasted_s == rule.attempts_max + sum(waits)


@pipeline
def raced(n: int) -> Stream[str]:
    slow = say(n, policy=Policy(first_chunk_s=3, retry=RULE))
    return race(slow, say(n, policy=Policy(timeout_s=9, retry=RULE)), stagger_s=0.5)


moments_s = st.integers(0, 12).map(lambda n: n / 4)
said = st.builds(
    lambda chunks, error: Streams(tuple(chunks), error),
    st.lists(st.tuples(moments_s, st.sampled_from(["a", "b", ""])), max_size=3),
    st.none() | st.just(BUSY) | st.just(ValueError("for good")),
)
attempts = st.lists(
    st.one_of(st.builds(Fails, st.just(BUSY), moments_s), said, st.just(Hangs())),
    min_size=1,
    max_size=4,
).map(lambda scripts: Attempts(tuple(scripts)))


@settings(max_examples=200)
@given(worlds(steps={"say": attempts, "say#2": attempts}, cancels=True))
def test_cancelled_at_any_moment_nothing_is_left_and_no_chunk_is_said_twice(world: World) -> None:
    """A loser is not tried again, and what is said is one attempt's of one arm."""
    run = lawful(raced, world, n=1)
    if run.error is not None:
        return
    texts = ["".join(str(text) for _, text in script.chunks) for script in _streams(world)]
    assert run.value in texts


def _streams(world: World) -> list[Streams]:
    scripts = [
        s for each in world.steps.values() if isinstance(each, Attempts) for s in each.scripts
    ]
    return [script for script in scripts if isinstance(script, Streams)]


@given(
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(1, 8).map(lambda n: n / 8),
    st.integers(1, 8).map(lambda n: n / 8),
    schedules(),
)
def test_all_runs_of_an_engine_never_retry_more_than_its_budget(
    runs: int, saved: int, per_call: float, per_s: float, schedule: int
) -> None:
    """In an outage: what is called again is a share of what is called, and no more."""
    rule = Retry(attempts_max=9, delay_s=0.5, delay_max_s=1)
    limits = Limits(retries_saved=saved, retries_per_call=per_call, retries_per_s=per_s)

    @step(policy=Policy(retry=rule))
    async def down(n: int) -> str:
        raise BUSY.with_traceback(None)

    @pipeline
    def p(n: int) -> str:
        return down(n)

    async def main() -> tuple[int, float]:
        async with open_engine(limits=limits, jitter=lambda: 1.0) as engine:
            begun = []
            for n in range(runs):
                begun.append(engine.start(p, {"n": n}))
                await trio.sleep(n % 3 / 4)
            await engine.wait_idle()
            events = [event for run in begun for event in run.journal.kept]
            made = sum(isinstance(event, StepRetried) for event in events)
            return made, trio.current_time()

    started_s = 0.0
    made, ended_s = virtual(main, schedule=schedule)
    assert made <= saved + per_call * runs + per_s * (ended_s - started_s)
    assert made >= min(saved, 8 * runs)


# ---------------------------------------------------------------------------- what it never does


def test_a_stream_that_has_given_a_chunk_is_never_tried_again() -> None:
    """Not even an empty one: its reader has seen it."""
    for chunk in ("a", ""):
        broken = Streams(((0, chunk),), BUSY)
        run = lawful(flow, World(steps={"say": Attempts((broken, Streams(((0, "b"),))))}), n=1)
        assert run.error is BUSY
        assert retries(run) == []


def test_what_an_arm_has_said_counts_before_the_commit_too() -> None:
    """An empty chunk commits nothing, but it has left the step."""
    steps: dict[str, Script] = {
        "say": Attempts((Streams(((0, ""),), BUSY), Streams(((0, "no"),)))),
        "say#2": Streams(((5, "yes"),)),
    }
    run = lawful(raced, World(steps=steps), n=1)
    assert run.value == "yes"
    assert retries(run) == []


def test_an_error_that_would_come_again_is_raised_at_once() -> None:
    refused = InvalidRequestError("no such tool")
    run = lawful(one, World(steps={"ask": Fails(refused, 1)}), n=1)
    assert run.error is refused
    assert run.lasted_s == 1


def test_a_step_that_fails_while_it_is_cancelled_is_not_tried_again() -> None:
    @step
    async def stubborn(n: int) -> str:
        try:
            await trio.sleep(9)
        except trio.Cancelled:
            raise BUSY.with_traceback(None) from None  # noqa: ASYNC104 - a user may get it wrong
        return "never"

    @pipeline
    def p(n: int) -> str:
        return stubborn.using(Policy(retry=RULE))(n)

    run = simulate(p, World(cancel_at_s=1), n=1)
    assert retries(run) == []
    assert isinstance(run.error, OverloadedError | RunCancelledError)
    assert run.lasted_s == 1


def test_a_cancellation_during_the_wait_ends_it_at_once() -> None:
    run = lawful(one, World(cancel_at_s=0.5, jitter=1.0, steps={"ask": Fails(BUSY)}), n=1)
    assert isinstance(run.error, RunCancelledError)
    assert run.lasted_s == 0.5
    assert len(retries(run)) == 1
    assert any(isinstance(event, StepCancelled) for event in run.events)


# ------------------------------------------------------------------------------------- deadlines


def test_the_first_chunk_has_its_time_in_every_attempt() -> None:
    @pipeline
    def p(n: int) -> Stream[str]:
        return say(n, policy=Policy(first_chunk_s=2, retry=RULE))

    script = Attempts((Hangs(), Streams(((5, "late"),)), Streams(((1.5, "a"), (9, "b")))))
    run = lawful(p, World(jitter=1.0, steps={"say": script}), n=1)
    assert run.value == "ab"
    assert [(event.error, event.at_s) for event in retries(run)] == [
        ("DeadlineError", 2.0),
        ("DeadlineError", 5.0),
    ]
    done = next(event for event in run.events if isinstance(event, StepFinished))
    assert done.first_chunk_s == 2 + 1 + 2 + 2 + 1.5


@pytest.mark.parametrize("streams", [True, False])
def test_timeout_s_lasts_over_all_attempts(streams: bool) -> None:
    policy = Policy(timeout_s=5, retry=RULE)

    @pipeline
    def p(n: int) -> str:
        return collect(say(n, policy=policy)) if streams else ask(n, policy=policy)

    script = Attempts((Fails(BUSY, 2), Hangs()))
    run = lawful(p, World(jitter=1.0, steps={"say" if streams else "ask": script}), n=1)
    assert isinstance(run.error, DeadlineError)
    assert run.error.limit == "timeout_s"
    assert run.lasted_s == 5


@pytest.mark.parametrize("of", ["step", "run"])
def test_a_wait_that_the_deadline_would_cut_is_not_begun(of: str) -> None:
    """The caller learns at once what is wrong, and not late that it was late."""
    wait = RateLimitError("slow down", retry_after_s=30)

    @pipeline(deadline_s=20 if of == "run" else None)
    def p(n: int) -> str:
        return ask(n, policy=Policy(timeout_s=20 if of == "step" else None, retry=RULE))

    script = Attempts((Fails(RateLimitError("soon", retry_after_s=3), 1), Fails(wait, 1)))
    run = lawful(p, World(jitter=0.0, steps={"ask": script}), n=1)
    assert run.error is wait
    assert run.lasted_s == 5


# ------------------------------------------------------------------------------- what goes along


def test_what_failed_attempts_consumed_stays_in_the_account() -> None:
    attempts = AttemptCounter()

    @step
    async def paid(n: int, *, context: Context = injected) -> str:
        context.used(Usage(input_tokens=10, output_tokens=1))
        await trio.sleep(1)
        if attempts.next() < 3:
            raise BUSY.with_traceback(None)
        return "done"

    @pipeline
    def p(n: int) -> str:
        return paid.using(Policy(retry=RULE))(n)

    run = lawful(p, World(), n=1)
    assert run.value == "done"
    last = run.events[-1]
    assert isinstance(last, RunFinished)
    assert last.usage == Usage(input_tokens=30, output_tokens=3)


def test_every_item_of_an_each_has_its_own_attempts() -> None:
    @pipeline
    def p(n: int) -> list[str]:
        return each(numbers(n), lambda item: ask(item, policy=Policy(retry=RULE)), at_once=2)

    run = lawful(p, World(steps={"ask": Attempts.failing(2, BUSY, Gives("x", 1))}), n=3)
    assert run.value == ["x"] * 3
    assert len(retries(run)) == 6


def test_one_error_in_a_group_is_looked_at_and_several_each() -> None:
    for second, tried in ((None, 2), (OverloadedError("too"), 2), (ValueError("for good"), 0)):
        errors = [BUSY] if second is None else [BUSY, second]
        grouped = ExceptionGroup("from a nursery in the step", errors)
        run = lawful(one, World(steps={"ask": Fails(grouped)}), n=1)
        assert len(retries(run)) == tried


def test_a_function_in_a_thread_is_called_again() -> None:
    calls = []

    @step(thread=True, policy=Policy(retry=Retry(attempts_max=2, delay_s=0.001)))
    def query(n: int) -> int:
        calls.append(n)
        if len(calls) == 1:
            raise BUSY.with_traceback(None)
        return n

    @pipeline
    def p(n: int) -> int:
        return query(n)

    async def main() -> int:
        async with open_engine() as engine:
            return await engine.run(p, 7)

    assert trio.run(main) == 7
    assert calls == [7, 7]


def test_an_attempt_that_changes_what_it_was_given_does_not_change_it_for_the_next() -> None:
    attempts = AttemptCounter()

    @step
    async def eats(parts: list[object]) -> int:
        left = len(parts)
        parts.clear()
        await trio.lowlevel.checkpoint()
        if attempts.next() == 1:
            raise BUSY.with_traceback(None)
        return left

    @pipeline
    def p(n: int) -> int:
        return eats.using(Policy(retry=RULE))([n, n])

    assert lawful(p, World(), n=1).value == 2


def test_an_error_that_only_the_budget_kept_from_another_attempt_says_so() -> None:
    error = OverloadedError("busy")
    limits = Limits(retries_saved=1, retries_per_call=0.1, retries_per_s=0.01)
    for _ in range(2):
        run = lawful(one, World(limits=limits, steps={"ask": Fails(error)}), n=1)
        assert run.error is error
        assert len(retries(run)) == 1
    spent = [
        note for note in error.__notes__ if "the retry budget of this engine is used up" in note
    ]
    assert len(spent) == 1
    assert "`retries_saved` in Limits" in spent[0]


def test_the_schedule_draws_the_waits_so_that_a_run_can_be_played_again() -> None:
    def waits(schedule: int) -> list[float]:
        run = lawful(one, World(schedule=schedule, steps={"ask": Fails(BUSY)}), n=1)
        return [event.delay_s for event in retries(run)]

    assert waits(1) == waits(1) != waits(2)
    assert all(0 <= wait <= RULE.delay_max_s for wait in waits(1))


def test_the_event_tells_what_went_wrong_and_the_step_fails_once() -> None:
    run = lawful(one, World(jitter=0.5, steps={"ask": Fails(BUSY, 1)}), n=1)
    first, second = retries(run)
    assert (first.step, first.attempt, first.at_s, first.delay_s) == ("ask", 1, 1.0, 0.5)
    assert (first.error, first.message) == ("OverloadedError", "busy")
    assert (second.attempt, second.at_s, second.delay_s) == (2, 2.5, 1.0)
    failures = [event for event in run.events if isinstance(event, StepFailed)]
    assert len(failures) == 1


def test_a_failed_attempt_holds_nothing_once_the_run_has_ended() -> None:
    """No cycle through a traceback: what the run held is freed with it, and without the gc."""

    class Held:
        pass

    kept: list[weakref.ref[Held]] = []

    @step
    async def holds(n: int) -> str:
        held = Held()
        kept.append(weakref.ref(held))
        await trio.lowlevel.checkpoint()
        raise OverloadedError("busy")

    @pipeline
    def p(n: int) -> str:
        return holds.using(Policy(retry=RULE))(n)

    async def main() -> None:
        async with open_engine(jitter=lambda: 0.0) as engine:
            with pytest.raises(OverloadedError):
                await engine.run(p, 1)

    gc.collect()
    gc.disable()
    try:
        trio.run(main)
        assert len(kept) == 3
        assert [ref() for ref in kept[:2]] == [None, None]
    finally:
        gc.enable()
