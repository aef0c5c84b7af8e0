"""What the replay command says of an error, told apart by where it stood."""

from __future__ import annotations

import pytest
import trio

from orchestra.testing.replay import Case, replay
from orchestra.values import Json
from tests.providers.test_remote import Canned

REFUSED = b'{"error":{"message":"busy","code":429,"status_code":429}}'
CHUNK = b'{"choices":[{"index":0,"delta":{"content":"so"}}]}'


def said(body: bytes, *, status: int = 200, stream: bool = True) -> Json:
    async def main() -> Json:
        case = Case("c", "groq", "chat", stream, status, "http://replay.test/v1")
        return await replay(case, Canned([(status, [body])]))

    return trio.run(main)


@pytest.mark.parametrize(
    ("body", "status", "stream", "expected"),
    [
        (REFUSED, 429, True, {"status": 429, "kind": "http"}),
        (b"<html>", 502, False, {"status": 502, "kind": "http"}),
        # The HTTP status was good: what else the error names is its own affair.
        (b"data: " + REFUSED + b"\n\n", 200, True, {"status": 200, "kind": "stream"}),
        (b"event: error\ndata: " + REFUSED + b"\n\n", 200, True, {"status": 200, "kind": "stream"}),
        (REFUSED, 200, False, {"status": 200, "kind": "stream"}),
        (b"data: " + CHUNK + b"\n\n", 200, True, {"status": 200, "kind": "stream"}),
        (b"data: {\n\n", 200, True, {"status": 200, "kind": "parse"}),
        (b"{", 200, False, {"status": 200, "kind": "parse"}),
    ],
)
def test_an_error_is_told_by_where_it_stood(
    body: bytes, status: int, stream: bool, expected: Json
) -> None:
    assert said(body, status=status, stream=stream) == {"cid": "c", "error": expected}


def test_a_surface_that_is_not_known_cannot_be_read() -> None:
    async def main() -> Json:
        case = Case("c", "groq", "speech", False, 200, "http://replay.test/v1")
        return await replay(case, Canned([]))

    assert trio.run(main) == {"cid": "c", "error": {"status": 200, "kind": "parse"}}
