"""Pydantic models as inputs, on edges, as chunks and as results of what is served."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal, TypeAlias

import trio
from pydantic import BaseModel, ConfigDict, Field

from orchestra.compiler.check import check
from orchestra.engine.engine import open_engine
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.steps import step
from orchestra.protocols import Stream
from orchestra.server.app import create_app
from orchestra.server.connections.hardening import mend_hypercorn
from orchestra.server.inputs.reading import from_json, from_query
from orchestra.server.settings import Settings
from tests.server.openapi.test_conformance import wrong
from tests.server.socketing import open_socket
from tests.server.wire import House, open_house

Count: TypeAlias = Annotated[int, Field(ge=0, description="How many.")]


class Card(BaseModel):
    kind: Literal["card"]
    number: int = Field(ge=1000)


class Bill(BaseModel):
    kind: Literal["bill"]
    days: int = 30


class Order(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"x-like": [{"discriminator": "mapping"}, {"discriminator": 5}]}
    )

    lines: list[str]
    paid: Annotated[Card | Bill, Field(discriminator="kind")]


ORDER = {"lines": ["tea", "milk"], "paid": {"kind": "card", "number": 1234}}


@step
async def shipped(order: Order, urgent: list[Bill]) -> Order:
    return order.model_copy(update={"lines": [*order.lines, str(len(urgent))]})


@step
def summed(count: int, most: int | None, all: list[int]) -> int:  # noqa: A002
    return count + (most or 0) + sum(all)


@step
async def lines_of(order: Order) -> AsyncIterator[Bill]:
    for number, _ in enumerate(order.lines):
        yield Bill(kind="bill", days=number)


@pipeline
def ship(order: Order, urgent: list[Bill] = []) -> Order:  # noqa: B006
    """Ship an order."""
    return shipped(order, urgent)


@pipeline
def counted(count: Count, most: Count | None = 3, all: list[Count] = []) -> int:  # noqa: A002, B006
    return summed(count, most, all)


@pipeline
def bills(order: Order) -> Stream[Bill]:
    """A bill for each line of what is shipped."""
    return lines_of(shipped(order, []))


async def _ask(house: House, name: str, **inputs: object) -> Any:
    client = await house.connect()
    head = f"POST /v1/pipelines/{name}/runs HTTP/1.1\nAccept: application/json"
    return await client.ask(
        f"{head}\nContent-Type: application/json", json.dumps({"inputs": inputs}).encode()
    )


def _served(test: Any) -> Any:
    """What the test returns, which is called with a house that serves both pipelines."""

    async def main() -> Any:
        mend_hypercorn()
        settings = Settings()
        pipelines: dict[str, Pipeline[..., Any]] = {"ship": ship, "bills": bills}
        assert not check(ship)
        assert not check(bills)
        async with open_engine() as engine:
            app = create_app(engine, pipelines, settings)
            async with open_house(app.asgi_app, settings) as house:
                return await test(house)

    return trio.run(main)


def test_a_run_takes_models_and_gives_models() -> None:
    async def test(house: House) -> tuple[Any, Any]:
        one = await _ask(house, "ship", order=ORDER, urgent=[{"kind": "bill"}])
        return one.json["result"], (await _ask(house, "bills", order=ORDER)).json["result"]

    whole, streamed = _served(test)
    assert whole == ORDER | {"lines": ["tea", "milk", "1"]}
    assert streamed == [{"kind": "bill", "days": number} for number in range(3)]


def test_every_fault_of_a_model_has_a_pointer_of_its_own() -> None:
    async def test(house: House) -> Any:
        order = {"lines": "tea", "paid": {"kind": "card", "number": 1}}
        return (await _ask(house, "ship", order=order, urgent=[{"kind": "bill", "days": "x"}])).json

    errors = {each["pointer"]: each["detail"] for each in _served(test)["errors"]}
    assert errors == {
        "#/inputs/order/lines": "input `order.lines`: input should be a valid array",
        "#/inputs/order/paid/number": (
            "input `order.paid.number`: input should be greater than or equal to 1000"
        ),
        "#/inputs/urgent/0/days": (
            "input `urgent[0].days`: input should be a valid integer, unable to parse string as "
            "an integer"
        ),
    }


def test_checks_outside_of_a_model_count_in_json_and_in_a_query() -> None:
    assert not check(counted)
    assert from_json(counted.inputs, {"count": 1, "most": None}) == ({"count": 1, "most": None}, [])
    given = [("count", "1"), ("most", "null"), ("all", "2"), ("all", "3")]
    assert from_query(counted.inputs, given) == ({"count": 1, "most": None, "all": [2, 3]}, [])
    _, faults = from_query(counted.inputs, [("count", "-1"), ("most", "-1"), ("all", "x")])
    told = "input should be greater than or equal to 0"
    assert [each.detail for each in faults[:2]] == [
        f"input `count`: {told}",
        f"input `most`: {told}",
    ]
    assert [each.pointer for each in faults] == ["?count", "?most", "?all"]
    _, faults = from_json(counted.inputs, {"count": "1", "all": [1, -1]})
    assert [each.pointer for each in faults] == ["#/inputs/count", "#/inputs/all/1"]


def test_models_are_taken_over_a_websocket() -> None:
    async def test(house: House) -> Any:
        socket = await open_socket(house, "/v1/pipelines/ship/ws")
        await socket.start("a", order=ORDER)
        return (await socket.events("a"))[-1]

    assert _served(test)["result"]["lines"] == ["tea", "milk", "0"]


def test_the_description_has_the_models_with_all_their_references() -> None:
    async def test(house: House) -> Any:
        client = await house.connect()
        return (await client.ask("GET /openapi.json HTTP/1.1")).json

    document = _served(test)
    schemas = document["components"]["schemas"]
    paid = schemas["ship.Order"]["properties"]["paid"]
    assert paid["discriminator"] == {
        "propertyName": "kind",
        "mapping": {
            "card": "#/components/schemas/ship.Card",
            "bill": "#/components/schemas/ship.Bill",
        },
    }
    order = {"$ref": "#/components/schemas/ship.Order"}
    assert [*wrong(document, order, ORDER)] == []
    assert [*wrong(document, order, ORDER | {"paid": {"kind": "cash"}})]
