"""Problems with Pydantic models are found before a run, as those with other classes are."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from orchestra import pipeline, prompt, step
from orchestra.compiler.check import check
from orchestra.errors import DefinitionError
from orchestra.testing.simulate import simulate
from orchestra.testing.world import World


class Order(BaseModel):
    number: int
    note: str = ""


class Invoice(BaseModel):
    number: int


class Loose(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    number: Any


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


@step
def opened(value: Open) -> int:
    return len(value.model_extra or {})


@step
def order_of(number: int) -> Order:
    return Order(number=number)


@step
def either(number: int) -> Order | Invoice:
    return Order(number=number) if number else Invoice(number=number)


@step
def booked(invoice: Invoice) -> int:
    return invoice.number


@step
def invoice_of(number: int) -> Invoice:
    return Invoice(number=number)


@step
def text_of(value: str) -> str:
    return value


@step
def loosely(value: Loose) -> int:
    return int(value.number)


@pipeline
def clash(n: int) -> int:
    return booked(order_of(n))  # type: ignore[arg-type]


@pipeline
def unknown(n: int) -> str:
    return text_of(order_of(n).nota)  # type: ignore[attr-defined]


@pipeline
def wrong_part(n: int) -> str:
    return text_of(order_of(n).number)  # type: ignore[arg-type]


@pipeline
def shown(n: int) -> str:
    return prompt("Read {order}", order=order_of(n))


@pipeline
def hidden(n: int) -> int:
    return loosely(Loose.model_construct(number=n))


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        (clash, "type-clash", "order_of(...) is Order, but booked(invoice=...) takes Invoice"),
        (unknown, "unknown-part", "order_of(...) is Order, without `.nota`"),
        (wrong_part, "type-clash", "order_of(...).number is int, but text_of(value=...) takes str"),
        (shown, "repr-in-text", "'order' is Order, and a model would read its repr"),
        (hidden, "wire-in-value", "is given a Loose that holds the wire n"),
    ],
)
def test_a_mistake_with_a_model_is_told_where_it_is_written(
    given: Any, code: str, told: str
) -> None:
    (problem,) = check(given)
    assert problem.code == code
    assert told in problem.message
    if code == "unknown-part":
        assert problem.fix == "did you mean `.note`? Order has: number, note"


def test_what_may_fit_is_checked_when_the_value_is_there() -> None:
    @pipeline
    def may(n: int) -> int:
        return booked(either(n))  # type: ignore[arg-type]

    assert not check(may)
    assert simulate(may, World(), n=0).value == 0
    assert "takes Invoice" in str(simulate(may, World(), n=1).error)


def test_a_wire_in_a_model_is_refused_with_the_step_that_makes_it() -> None:
    def wrong(n: int) -> int:
        return booked(Invoice(number=n))

    with pytest.raises(DefinitionError) as caught:
        pipeline(wrong)
    assert str(caught.value).partition(": ")[2] == (
        "`n` cannot be used as a plain value: it has no value while the pipeline is being defined\n"
        "    wrong: return booked(Invoice(number=n))\n"
        "    right: return booked(Invoice_of(n))\n"
        "    where: @step\n"
        "           def Invoice_of(n: int) -> Invoice:\n"
        "               return Invoice(number=n)"
    )


def test_another_error_of_a_model_is_its_own() -> None:
    def wrong(n: int) -> int:
        return booked(Invoice.model_validate({"number": "x"})) + n

    with pytest.raises(ValueError, match="unable to parse string") as caught:
        pipeline(wrong)
    assert not isinstance(caught.value, DefinitionError)


def test_a_wire_in_an_extra_field_is_found() -> None:
    def wrong(n: int) -> int:
        return opened(Open.model_validate({"more": n}))

    (problem,) = check(pipeline(wrong))
    assert problem.code == "wire-in-value"


def test_a_field_as_a_default_is_refused_with_where_it_goes() -> None:
    def wrong(n: int = Field(ge=0)) -> int:
        return booked(invoice_of(n))

    (problem,) = check(pipeline(wrong))
    assert problem.fix == "write `n: Annotated[int, Field(...)]`, and any default behind it"
