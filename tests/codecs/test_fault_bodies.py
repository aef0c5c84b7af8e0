"""Bodies of errors as providers send them, each read by the dialect that it would come to.

`fault_bodies.jsonl` is the table. A row with a `source` is told there by somebody who got it, or
by the provider; the others have the shape and the words that their provider uses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestra import errors
from orchestra.testing.replay import dialect_of

TABLE = Path(__file__).with_name("fault_bodies.jsonl").read_text()
ROWS: list[dict[str, Any]] = [json.loads(line) for line in TABLE.splitlines()]
SURFACES = {
    "anthropic": "messages",
    "google": "generateContent",
    "bedrock": "converse",
    "cohere": "v2chat",
    "ollama": "api/chat",
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['provider']}-{row['status']}")
def test_a_body_is_the_error_that_its_provider_means(row: dict[str, Any]) -> None:
    body = row["body"]
    sent = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    dialect = dialect_of(row["provider"], SURFACES.get(row["provider"], "chat"))
    error = dialect.error(row["status"], row.get("headers", {}), sent, 0.0)
    assert type(error) is getattr(errors, row["kind"])
    assert error.status == row["status"]
