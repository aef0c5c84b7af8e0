"""A request's body: whole where it is wanted, and no memory of it where it is not."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import trio.testing
from hypercorn.trio.tcp_server import MAX_RECV
from hypothesis import example, given
from hypothesis import strategies as st
from quart_trio.wrappers import TrioRequest
from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge

from orchestra.server.front.departure import ArrivingBody, DepartingRequest
from tests.server.socketing import Stage, on_stage


@given(st.lists(st.binary(max_size=8)), st.lists(st.binary(max_size=8)))
def test_of_a_body_that_was_discarded_nothing_is_kept(
    before: list[bytes], after: list[bytes]
) -> None:
    body = ArrivingBody(None, None)
    for each in before:
        body.append(each)
    body.discard()
    for each in after:
        body.append(each)
    body.set_complete()
    assert not body._data
    assert body.here() is None


def test_a_body_that_is_too_large_stays_so() -> None:
    body = ArrivingBody(9, 8)
    body.discard()
    with pytest.raises(RequestEntityTooLarge):
        body.__await__().send(None)


async def never(path: str, headers: Headers) -> None:
    raise AssertionError(f"{path} was pushed with {headers}")


def announced(kind: type[TrioRequest], lengths: list[str]) -> int | None:
    """The length of the body of a request with these headers."""
    scope: Any = {"headers": [(b"content-length", each.encode("latin1")) for each in lengths]}
    headers = Headers([("Content-Length", each) for each in lengths])
    request = kind(
        *("POST", "http", "/", b"", headers, "", "1.1", scope),
        max_content_length=None,
        body_timeout=None,
        send_push_promise=never,
    )
    return request.content_length


@given(st.lists(st.from_regex(r"[0-9]{1,20}", fullmatch=True, alphabet="0123456789"), max_size=2))
@example([])
@example(["007"])
@example(["9" * 20])
@example(["3", "4"])
def test_the_announced_length_is_what_werkzeug_reads(lengths: list[str]) -> None:
    """Of all lengths that h11 lets through: at most 20 digits."""
    assert announced(DepartingRequest, lengths) == announced(TrioRequest, lengths)


@pytest.mark.parametrize("wrong", ["", "-3", "+3", " 3", "3 3", "3,3", "0x3", "3_0", "3.0", "\xb2"])
def test_what_is_no_length_is_none(wrong: str) -> None:
    """h11 refuses it: see `test_plain_requests`."""
    assert announced(DepartingRequest, [wrong]) is None


@pytest.mark.parametrize("framing", ["Content-Length: 30000000", "Transfer-Encoding: chunked"])
def test_of_the_body_of_a_get_nothing_is_kept_while_its_stream_is_open(framing: str) -> None:
    """However large it is, and though its end never comes."""

    async def test(stage: Stage) -> None:
        client = await stage.house.connect()
        await client.send(
            f"""GET /v1/pipelines/count/runs?count=1&hold=true HTTP/1.1
            Accept: text/event-stream
            Content-Type: multipart/form-data; boundary=a
            {framing}"""
        )
        assert (await client.head()).status == 200
        start = b"989680\r\n" if "chunked" in framing else b""
        await client.stream.send_all(start + b"x" * 9_000_000)
        await trio.testing.wait_all_tasks_blocked(0.01)
        bodies = [each for each in gc.get_objects() if type(each) is ArrivingBody]
        assert max(len(each._data) for each in bodies) <= MAX_RECV

    on_stage(test)
