"""A plugin for the tests of OpenAI's own client: before each, the completion is there that it asks.

They were written for a server that makes everything up; ours has what was kept. So each test finds
`completion_id` as if it had been kept just before.
"""

from __future__ import annotations

import os
from urllib.request import Request, urlopen

import pytest


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    if "/chat/" in str(request.node.fspath):
        urlopen(Request(os.environ["SEED_URL"], b"{}", method="POST"), timeout=10).close()
