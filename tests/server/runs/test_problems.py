"""Why a run failed, as a problem: whose fault it is can be told from its type."""

from __future__ import annotations

import inspect
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import errors
from orchestra.codecs.serving.errors import error_reply
from orchestra.errors import (
    ArmsFailedError,
    AuthenticationError,
    BindingError,
    BudgetExceededError,
    BudgetHeldError,
    InputError,
    LimitReachedError,
    ModelError,
    ModelsFailedError,
    OverloadedError,
    QuotaError,
    RateLimitError,
    RunCancelledError,
    StepFailedError,
)
from orchestra.events import RunFailed
from orchestra.server.responses import caller_problems
from orchestra.server.runs.fit_events import fit_for_clients
from orchestra.server.runs.problems import (
    KINDS,
    Kind,
    failed_run,
    kind_of,
    problem_of,
)

MODEL_ERRORS = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, ModelError) and cls != ModelsFailedError
]


def event(error: BaseException) -> RunFailed:
    return RunFailed(9, 0.1, type(error).__name__, str(error))


def test_whose_fault_it_is_can_be_told_from_the_type() -> None:
    """Your key, your budget, your rate; the provider's key, quota, load: six types."""
    provider = [
        AuthenticationError("x"),
        QuotaError("x"),
        OverloadedError("x"),
        RateLimitError("x"),
    ]
    codes = [kind_of(error).code for error in provider]
    codes += [kind_of(BudgetExceededError("x")).code, kind_of(LimitReachedError("x")).code]
    codes += [caller_problems.key_refused(each).code for each in ("unknown", "expired", "revoked")]
    codes += [caller_problems.key_missing().code, caller_problems.not_allowed("model", "x").code]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("cls", MODEL_ERRORS, ids=lambda cls: cls.__name__)
def test_the_error_and_its_name_alone_say_the_same(cls: type[ModelError]) -> None:
    error = cls("the model says no")
    with_error, without = failed_run("r", event(error), error), failed_run("r", event(error))
    assert (with_error.status, with_error.code) == (without.status, without.code)
    assert with_error.code != "run-failed"


def test_an_input_that_a_step_refuses_is_told_as_one_that_does_not_fit() -> None:
    error = InputError("it is too short; write a sentence", field="question")
    problem = failed_run("r", event(error), error)
    assert (problem.status, problem.code) == (422, "bad-inputs")
    (fault,) = problem.faults
    assert (fault.field, fault.pointer) == ("question", "#/inputs/question")
    assert "write a sentence" in fault.detail
    assert failed_run("r", event(error)).code == "bad-inputs"
    assert failed_run("r", event(error), InputError("x")).faults == ()


RAISED: list[BaseException] = [
    LimitReachedError("full", code="user.concurrency", retry_after_s=7),
    InputError("it is too short", field="question"),
    ArmsFailedError("all failed:", {"1:a": KeyError("/srv/secret")}),
    ModelsFailedError("all failed:", {"a": OverloadedError("db-7.internal", retry_after_s=2)}),
    ZeroDivisionError("/srv/secret"),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_a_program_answers_an_error_as_the_server_does(error: BaseException) -> None:
    """With what clients may read, and without the id of the run, which the error does not have."""
    problem = problem_of(error)
    served = failed_run("r", fit_for_clients(event(error)), error)  # type: ignore[arg-type]
    assert (problem.status, problem.code, problem.detail) == (
        served.status,
        served.code,
        served.detail,
    )
    assert (problem.headers, problem.faults) == (served.headers, served.faults)
    assert dict(problem.extras) == {k: v for k, v in served.extras if k != "run_id"}
    assert b"secret" not in problem.encode()
    assert b"internal" not in problem.encode()


def test_a_run_that_was_stopped_is_unavailable_to_a_program_as_well() -> None:
    problem = problem_of(RunCancelledError("the portal was closed"))
    assert (problem.status, problem.code) == (503, "run-cancelled")
    assert "the portal was closed" in problem.detail


@pytest.mark.parametrize("one", KINDS, ids=lambda kind: kind.code)
def test_no_kind_is_hidden_behind_an_earlier_one(one: object) -> None:
    assert one in KINDS
    earlier = KINDS[: KINDS.index(one)]
    assert not any(issubclass(one.error, each.error) for each in earlier)  # type: ignore[attr-defined]


@given(st.floats(0.0, 1e6))
def test_how_long_to_wait_is_told_in_whole_seconds_and_never_too_short(wait_s: float) -> None:
    error = OverloadedError("full", retry_after_s=wait_s)
    headers = dict(failed_run("r", event(error), error).headers)
    assert wait_s <= int(headers["Retry-After"]) <= wait_s + 1 or headers["Retry-After"] == "1"


@given(st.sampled_from(MODEL_ERRORS), st.sampled_from(MODEL_ERRORS))
def test_of_several_models_and_arms_the_last_that_may_be_retried_decides(
    first: type[ModelError], last: type[ModelError]
) -> None:
    both = {"a": first("1"), "b": last("2")}
    wanted = kind_of(first("1") if first.retryable and not last.retryable else last("2"))
    assert kind_of(ModelsFailedError("all", both)) == wanted
    assert kind_of(ArmsFailedError("all", both)) == wanted
    assert kind_of(StepFailedError("all", [last("2"), first("1")])) == kind_of(last("2"))


@given(st.none() | st.floats(0.0, 1e6))
def test_every_429_tells_when_to_come_again(wait_s: float | None) -> None:
    """Also where it is not known, since others have to end first."""
    error = LimitReachedError("full", code="waiting_max", retry_after_s=wait_s)
    waits = str(max(ceil(wait_s or 0), 1))
    for told in (
        failed_run("r", event(error), error),
        caller_problems.your_rate(error),
        error_reply(error),
    ):
        assert (told.status, [value for _, value in told.headers]) == (429, [waits])


def test_how_long_to_wait_is_told_where_another_model_failed_for_good() -> None:
    both = {"a": RateLimitError("slow", retry_after_s=7.0), "b": AuthenticationError("who?")}
    error = ModelsFailedError("all", both)
    problem = failed_run("r", event(error), error)
    assert (problem.status, problem.code) == (503, "provider-rate")
    assert dict(problem.headers)["Retry-After"] == "7"


@given(st.none() | st.floats(0.0, 90.0), st.sampled_from(["", "route", "arms"]))
def test_a_limit_of_our_own_says_which_it_is_and_when_to_try_again(
    wait_s: float | None, within: str
) -> None:
    """Also where nobody knows when there will be room, and where it was all that a route had."""
    error: BaseException = LimitReachedError("full", code="user.concurrency", retry_after_s=wait_s)
    if within == "route":
        error = ModelsFailedError("all", {"a": error, "b": AuthenticationError("who?")})  # type: ignore[dict-item]
    if within == "arms":
        error = ArmsFailedError("all", {"a": error})
    problem, replied = failed_run("r", event(error), error), error_reply(error)
    assert (problem.status, problem.code) == (429, "rate-limited")
    assert dict(problem.extras)["limit"] == "user.concurrency"
    wait = str(max(ceil(1.0 if wait_s is None else wait_s), 1))
    assert dict(problem.headers) == {"Retry-After": wait}
    assert dict(replied.headers) == {"retry-after": wait}
    assert dict(caller_problems.your_rate(LimitReachedError("runs")).headers)["Retry-After"] == "1"


@pytest.mark.parametrize("one", KINDS, ids=lambda kind: kind.code)
def test_what_may_be_tried_again_says_so_where_only_its_name_is_known(one: Kind) -> None:
    """As of a run of another process."""
    told = failed_run("r", RunFailed(9, 0.1, one.error.__name__, "no"))
    assert ("Retry-After" in dict(told.headers)) == (one.status == 429)


def test_a_used_up_budget_tells_how_it_is() -> None:
    error = BudgetExceededError(
        "no", budget="user ada, a day", spent_nanodollars=7, resets_at_s=9.0
    )
    extras = dict(failed_run("r", event(error), error).extras)
    assert (extras["budget"], extras["spent_nanodollars"]) == ("user ada, a day", 7)


def test_a_budget_that_others_hold_tells_when_to_try_again() -> None:
    error = BudgetHeldError("no", budget="user ada, a day", held_nanodollars=7)
    error.retry_after_s = 1.0
    problem = failed_run("r", event(error), error)
    assert (problem.status, problem.code) == (429, "budget-held")
    assert dict(problem.extras)["budget"] == "user ada, a day"
    assert dict(problem.headers)["Retry-After"] == "1"


def test_a_fault_of_the_pipeline_is_its_own_and_one_of_the_deployment_is_not() -> None:
    """A key of a provider that is not there is no fault of whoever wrote the pipeline."""
    assert kind_of(KeyError("x")).code == "run-failed"
    missing = BindingError("model 'x' has no key: set OPENAI_API_KEY")
    assert kind_of(missing).code == "not-configured"
    assert kind_of(ArmsFailedError("all", {"a": missing})).code == "not-configured"
