"""An error is printed as it is written, so that a failing example can be pasted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra import errors
from orchestra.errors import (
    ArmsFailedError,
    BudgetExceededError,
    DeadlineError,
    InputError,
    ModelError,
    OverloadedError,
    RateLimitError,
    RunError,
)
from orchestra.values import StopReason, Vector


@given(
    st.sampled_from([ModelError, RateLimitError, OverloadedError]),
    st.text(),
    st.fixed_dictionaries(
        {},
        optional={
            "retryable": st.booleans(),
            "retry_after_s": st.floats(0, 99),
            "status": st.integers(400, 599),
            "code": st.text(),
            "provider": st.text(),
            "model": st.text(),
            "request_id": st.text(),
        },
    ),
)
def test_an_error_of_a_model_can_be_read_back(
    kind: type[ModelError], said: str, fields: dict[str, object]
) -> None:
    error = kind(said, **fields)  # type: ignore[arg-type]
    again = eval(repr(error), vars(errors))
    assert (type(again), str(again)) == (kind, str(error))
    assert again.retryable == error.retryable
    assert {**vars(again), "retryable": None} == {**vars(error), "retryable": None}


class OwnError(ModelError):
    """One that somebody has derived, with arguments of its own."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


class BareError(RunError):
    """One without anything."""


@pytest.mark.parametrize(
    ("error", "written"),
    [
        (RateLimitError("slow"), "RateLimitError('slow')"),
        (OverloadedError("x", retryable=False), "OverloadedError('x', retryable=False)"),
        (DeadlineError("late", limit="idle_s"), "DeadlineError('late', limit='idle_s')"),
        (InputError("x", field="f"), "InputError('x', field='f')"),
        (BudgetExceededError("b", budget="acme"), "BudgetExceededError('b', budget='acme')"),
        (OwnError(1, 2), "OwnError('1 and 2')"),
        (BareError(), "BareError()"),
        (BareError("a", 2), "BareError('a', 2)"),
        (ArmsFailedError("m", {}), "ArmsFailedError('m')"),
    ],
)
def test_an_error_is_printed_as_it_is_written(error: Exception, written: str) -> None:
    assert repr(error) == written


def test_values_of_tests_are_printed_as_they_are_written() -> None:
    assert repr(StopReason.END) == "StopReason.END"
    assert repr(Vector.of([1.0, 0.5])) == "Vector.of([1.0, 0.5])"
    assert repr(Vector.of([0.0] * 256)) == "<Vector of 256>"


@pytest.mark.parametrize(
    ("wait_s", "told"),
    [(1.30129, "1.3"), (2.59428, "2.59"), (60.0, "60"), (3601.0, "3601"), (0.5, "0.5")],
)
def test_a_wait_is_told_in_as_many_digits_as_a_person_reads(wait_s: float, told: str) -> None:
    assert str(OverloadedError("full", retry_after_s=wait_s)) == f"full (retry after {told} s)"
