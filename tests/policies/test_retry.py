"""Retry: every wait is within its bounds, and no window has more retries than the budget."""

from __future__ import annotations

from math import inf, nan

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Limits, Policy, Retry
from orchestra.errors import (
    ArmsFailedError,
    DeadlineError,
    InvalidRequestError,
    ModelError,
    OverloadedError,
    RateLimitError,
    StepFailedError,
)
from orchestra.policies.retry import RetryBudget, is_retryable, next_delay_s

RULE = Retry(attempts_max=3, delay_s=1, delay_max_s=8, on=(KeyError,))


class BusyError(Exception):
    """A user's own error, which says of itself that it may pass."""

    retryable = True
    retry_after_s = 2.5


class OddError(Exception):
    retryable = "perhaps"
    retry_after_s = "tomorrow"


seconds = st.floats(0.001, 1e6)
rules = st.builds(
    lambda attempts_max, delay_s, longer, multiplier, patience_s: Retry(
        attempts_max=attempts_max,
        delay_s=delay_s,
        delay_max_s=delay_s * longer,
        multiplier=multiplier,
        retry_after_max_s=patience_s,
        on=(KeyError,),
    ),
    st.integers(1, 5000),
    seconds,
    st.floats(1, 100),
    st.floats(1, 1e6),
    seconds,
)
told = st.none() | st.floats(-1, 1e6)
errors = st.one_of(
    told.map(lambda s: RateLimitError("slow down", retry_after_s=s)),
    st.booleans().map(lambda retryable: ModelError("so", retryable=retryable)),
    st.sampled_from([KeyError("k"), ValueError("v"), InvalidRequestError("no"), BusyError()]),
)


@given(rules, st.integers(1, 5000), errors, st.floats(0, 1), st.just(inf) | st.floats(-10, 1e6))
def test_a_wait_keeps_to_every_bound_or_is_not_begun(
    rule: Retry, attempt: int, error: Exception, jitter: float, remaining_s: float
) -> None:
    """Never sooner than the error asks, never longer than the rule allows, never too late."""
    delay_s = next_delay_s(rule, attempt, error, jitter, remaining_s)
    told_s = max(0.0, getattr(error, "retry_after_s", None) or 0.0)
    may = (
        attempt < rule.attempts_max
        and (isinstance(error, KeyError) or bool(getattr(error, "retryable", False)))
        and told_s <= rule.retry_after_max_s
    )
    if delay_s is not None:
        assert may
        assert told_s <= delay_s <= told_s + rule.delay_max_s
        assert delay_s < remaining_s
        if attempt == 1:
            assert delay_s <= told_s + rule.delay_s
    elif may:
        assert told_s + rule.delay_max_s >= remaining_s


@pytest.mark.parametrize(
    ("attempt", "jitter", "waits_s"), [(1, 1, 1), (1, 0.5, 0.5), (2, 1, 2), (2, 0, 0), (3, 1, None)]
)
def test_the_longest_wait_doubles_and_what_is_waited_is_drawn_from_all_of_it(
    attempt: int, jitter: float, waits_s: float | None
) -> None:
    assert next_delay_s(RULE, attempt, OverloadedError("busy"), jitter, inf) == waits_s


def test_the_longest_wait_is_capped_however_many_attempts_there_were() -> None:
    rule = attrs.evolve(RULE, attempts_max=10**6)
    longest = [next_delay_s(rule, n, KeyError(), 1.0, inf) for n in (3, 4, 5, 99_999)]
    assert longest == [4, 8, 8, 8]


@pytest.mark.parametrize(
    ("error", "told_s"),
    [
        (RateLimitError("x", retry_after_s=5), 5),
        (BusyError(), 2.5),
        (RateLimitError("x", retry_after_s=nan), 0),
        (RateLimitError("x", retry_after_s=-1), 0),
        (StepFailedError("two", [BusyError(), RateLimitError("x", retry_after_s=4)]), 4),
        (
            ArmsFailedError("two", {"a": BusyError(), "b": RateLimitError("x", retry_after_s=4)}),
            2.5,
        ),
        (ArmsFailedError("two", {"a": BusyError(), "b": ValueError()}), 2.5),
    ],
)
def test_what_the_error_asks_for_is_waited_besides(error: Exception, told_s: float) -> None:
    assert next_delay_s(RULE, 1, error, 0.0, inf) == told_s
    assert next_delay_s(RULE, 1, error, 1.0, inf) == told_s + 1


def test_too_long_a_wait_is_not_begun() -> None:
    error = RateLimitError("x", retry_after_s=60)
    assert next_delay_s(RULE, 1, error, 0.0, inf) == 60
    assert next_delay_s(RULE, 1, error, 0.0, 60.5) == 60
    assert next_delay_s(RULE, 1, error, 0.0, 60) is None
    assert next_delay_s(RULE, 1, RateLimitError("x", retry_after_s=61), 0.0, inf) is None
    assert next_delay_s(RULE, 1, RateLimitError("x", retry_after_s=inf), 0.0, inf) is None
    assert next_delay_s(RULE, 1, OverloadedError("x"), 0.0, -inf) is None


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (OverloadedError("x"), True),
        (OverloadedError("x", retryable=False), False),
        (InvalidRequestError("x"), False),
        (BusyError(), True),
        (OddError(), False),
        (KeyError("named in `on`"), True),
        (LookupError("a base of what is named"), False),
        (DeadlineError("late", limit="first_chunk_s"), True),
        (DeadlineError("late", limit="idle_s"), False),
        (DeadlineError("late", limit="timeout_s"), False),
        (StepFailedError("both", [BusyError(), KeyError()]), True),
        (StepFailedError("one", [BusyError(), ValueError()]), False),
        (ArmsFailedError("one", {"a": BusyError(), "b": ValueError()}), True),
        (ArmsFailedError("none", {"a": InvalidRequestError("x"), "b": ValueError()}), False),
    ],
)
def test_an_error_says_of_itself_whether_it_may_pass(error: Exception, retryable: bool) -> None:
    assert is_retryable(RULE, error) is retryable


# --- the budget --------------------------------------------------------------------------------

SIXTEENTHS = st.integers(1, 32).map(lambda n: n / 16)  # exact in binary: sums do not round


@given(
    st.builds(
        Limits,
        retries_per_call=SIXTEENTHS,
        retries_per_s=SIXTEENTHS,
        retries_saved=st.integers(1, 4),
    ),
    st.lists(st.tuples(st.integers(0, 32).map(lambda n: n / 16), st.booleans()), max_size=40),
)
def test_no_window_has_more_retries_than_the_budget_and_none_is_refused_without_need(
    limits: Limits, steps: list[tuple[float, bool]]
) -> None:
    """Compared with its definition: each window, however it is cut out of the past."""
    now_s, budget = 0.0, RetryBudget(limits, 0.0)
    happened: list[tuple[float, int, int]] = [(0.0, 0, 0)]  # when, calls, retries
    for after_s, retry in steps:
        now_s += after_s
        if not retry:
            budget.called(now_s)
            happened.append((now_s, 1, 0))
            continue
        granted = budget.take(now_s)
        assert granted == all(
            1 + sum(r for _, _, r in happened[place:])
            <= limits.retries_saved
            + limits.retries_per_call * sum(c for _, c, _ in happened[place:])
            + limits.retries_per_s * (now_s - since_s)
            for place, (since_s, _, _) in enumerate([*happened, (now_s, 0, 0)])
        )
        happened.append((now_s, 0, int(granted)))


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"attempts_max": 0}, r"Retry\(attempts_max=0\): attempts_max must be the number of calls"),
        ({"attempts_max": True}, r"Retry\(attempts_max=True\): attempts_max must be"),
        ({"attempts_max": 2.5}, r"Retry\(attempts_max=2.5\): attempts_max must be"),
        ({"delay_s": 0}, r"Retry\(delay_s=0\): delay_s must be more than 0"),
        ({"delay_max_s": inf}, r"Retry\(delay_max_s=inf\): delay_max_s is a bound; write a finite"),
        ({"retry_after_max_s": nan}, r"Retry\(retry_after_max_s=nan\): .* must be a number"),
        ({"on": OSError}, r"write on=\(OSError,\)"),
        ({"multiplier": 0.5}, r"Retry\(multiplier=0.5\): waits do not shrink"),
        ({"multiplier": inf}, r"Retry\(multiplier=inf\)"),
        ({"multiplier": "2"}, r"Retry\(multiplier='2'\)"),
        ({"delay_s": "a"}, r"Retry\(delay_s='a'\): delay_s must be a number"),
        ({"delay_max_s": None}, r"Retry\(delay_max_s=None\): delay_max_s must be a number"),
        ({"delay_s": 31}, r"Retry\(delay_s=31, delay_max_s=30.0\): .* raise delay_max_s, or lower"),
        ({"on": KeyError}, r"Retry\(on=<class 'KeyError'>\): on must be a tuple of classes"),
        ({"on": (KeyboardInterrupt,)}, "none of them a cancellation"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_refused_by_name(given: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Retry(**{"attempts_max": 3, **given})  # type: ignore[arg-type]


def test_a_policy_takes_a_rule_and_nothing_else() -> None:
    with pytest.raises(TypeError, match=r"Policy\(retry=3\): write it as Retry\(attempts_max=3\)"):
        Policy(retry=3)  # type: ignore[arg-type]


def test_a_rule_without_its_bound_is_none() -> None:
    with pytest.raises(TypeError, match="attempts_max"):
        Retry()  # type: ignore[call-arg]
