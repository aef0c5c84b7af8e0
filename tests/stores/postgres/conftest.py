"""A new database for each test that asks for one, on the Postgres that all of them share."""

from __future__ import annotations

import pytest

from orchestra.stores.postgres.pool import Address
from tests.servers.postgres import shared_postgres


@pytest.fixture
def address() -> Address:
    return shared_postgres().database()
