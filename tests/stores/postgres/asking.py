"""Calls and checks that several tests of stores in Postgres share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import trio

from orchestra.errors import StoreError
from orchestra.stores.postgres.pool import Address
from orchestra.values import Passage, Vector
from tests.servers.postgres import PASSWORD

T = TypeVar("T")

EAST = Vector.of([1.0, 0.0])
ONE = Passage("one", "text", "one.md")
BUSY = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'orchestra' AND {}"


def run(call: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        with trio.fail_after(60):
            return await call()

    return trio.run(main)


def refused(call: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(StoreError) as caught:
        run(call)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


def name_of(address: Address) -> str:
    return address.parameters["dbname"]
