"""Whose fault an error is, in the words that OpenAI's clients know."""

from __future__ import annotations

import json

import pytest

from orchestra.codecs.openai_serving_errors import HIDDEN, error_reply
from orchestra.errors import (
    ArmsFailedError,
    AuthenticationError,
    BreakerOpenError,
    BudgetExceededError,
    CapabilityError,
    DeadlineError,
    InputError,
    InvalidRequestError,
    LimitReachedError,
    ModelsFailedError,
    QuotaError,
    RateLimitError,
    RunCancelledError,
    StepFailedError,
    UnknownPriceError,
)


def told(error: BaseException) -> tuple[int, str, str | None]:
    reply = error_reply(error)
    said = json.loads(reply.body)["error"]
    return reply.status, said["code"], said["param"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (LimitReachedError("slow"), 429, "rate_limit_exceeded"),
        (RateLimitError("slow"), 429, "provider_rate_limited"),
        (BudgetExceededError("spent"), 429, "insufficient_quota"),
        (QuotaError("spent"), 429, "provider_quota"),
        (AuthenticationError("who?"), 502, "provider_key"),
        (BreakerOpenError("later"), 503, "model_unavailable"),
        (UnknownPriceError("how much?"), 500, "unknown_price"),
        (DeadlineError("late", limit="deadline_s"), 504, "deadline_exceeded"),
        (RunCancelledError("stopped"), 503, "run_cancelled"),
        (InvalidRequestError("no", code="odd"), 400, "odd"),
    ],
)
def test_the_code_says_whose_fault_it_is(error: BaseException, status: int, code: str) -> None:
    assert told(error) == (status, code, None)


def test_a_client_is_told_not_to_send_again_what_will_not_succeed() -> None:
    def retried(error: BaseException) -> bool:
        return ("x-should-retry", "false") not in error_reply(error).headers

    assert [retried(RateLimitError("slow")), retried(BreakerOpenError("later"))] == [True, True]
    assert [retried(QuotaError("spent")), retried(AuthenticationError("who?"))] == [False, False]
    assert not retried(KeyError("x"))


def test_of_several_errors_the_last_decides() -> None:
    both = {"a": QuotaError("spent"), "b": RateLimitError("slow")}
    assert told(ModelsFailedError("all", both))[1] == "provider_rate_limited"
    assert told(ArmsFailedError("all", both))[1] == "provider_rate_limited"
    assert told(StepFailedError("all", [QuotaError("spent")]))[1] == "provider_quota"


def test_an_input_that_a_step_refuses_is_a_parameter() -> None:
    error = InputError("it is too short", field="question")
    assert told(error) == (400, "invalid_value", "question")


def test_what_is_no_error_of_ours_is_not_told() -> None:
    reply = error_reply(KeyError("sk-123"))
    assert reply.status == 500
    assert json.loads(reply.body)["error"]["message"] == HIDDEN


def test_what_a_model_cannot_do_is_told_with_the_field_that_asks_for_it() -> None:
    assert told(CapabilityError("seed=3 cannot be asked of it"))[2] == "seed"
    assert (
        told(CapabilityError("it has no word for output='a JSON schema'"))[2] == "response_format"
    )
    assert told(CapabilityError("tool_choice='seed=3' cannot be asked"))[2] == "tool_choice"
    assert told(CapabilityError("extras={...} unknown"))[2] is None
    assert told(CapabilityError("it cannot"))[2] is None
    assert told(CapabilityError("tools[0].name: no"))[2] == "tools[0].name"
    assert told(InvalidRequestError("temperature=3 is too hot"))[2] is None
