"""A request's body: whole where it is wanted, and no memory of it where it is not."""

from __future__ import annotations

import gc

import pytest
import trio.testing
from hypercorn.trio.tcp_server import MAX_RECV
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import RequestEntityTooLarge

from orchestra.server.front.departure import ArrivingBody
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
