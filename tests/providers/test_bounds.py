"""How long a provider may take, and what is said when it takes longer."""

from __future__ import annotations

import pytest
import trio

from orchestra.errors import ModelTimeoutError
from orchestra.protocols import HttpRequest, Timeouts
from orchestra.providers.network import open_transport
from tests.providers.upstream import CHUNKED, Visit, fetch, holds, run, until, upstream

LATE: list[tuple[str, Timeouts, tuple[bytes, ...]]] = [
    ("first_byte_s", Timeouts(first_byte_s=0.02), ()),
    ("first_byte_s", Timeouts(first_byte_s=0.02), (b"HTTP/1.1 102 Wait\r\n\r\n",)),
    ("idle_s", Timeouts(idle_s=0.02), (b"HTTP/1.1 200",)),
    ("idle_s", Timeouts(idle_s=0.02), (CHUNKED,)),
    ("idle_s", Timeouts(idle_s=0.02), (CHUNKED, b"2\r\nab\r\n", b"2\r\n")),
    ("total_s", Timeouts(total_s=0.02), ()),
    ("total_s", Timeouts(total_s=0.02), (CHUNKED, b"2\r\nab\r\n")),
    ("total_s", Timeouts(idle_s=None, total_s=0.02), (CHUNKED,)),
]


@pytest.mark.parametrize(("code", "timeouts", "parts"), LATE)
def test_a_bound_is_an_error_that_names_it(
    code: str, timeouts: Timeouts, parts: tuple[bytes, ...]
) -> None:
    async def main() -> None:
        async with upstream(holds(*parts)) as server, open_transport() as transport:
            with pytest.raises(ModelTimeoutError, match=f"within {code} = 0.02 from") as caught:
                await fetch(transport, server.url, timeouts)
            assert caught.value.code == code
            assert caught.value.retryable
            assert str(server.port) in str(caught.value)
            await until(lambda: bool(server.visits))  # it may be given up before it is accepted
            await server.visits[0].gone.wait()

    run(main)


def test_a_request_that_nobody_reads_has_a_bound_too() -> None:
    async def handle(visit: Visit) -> None:
        await visit.gone.wait()

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            request = HttpRequest(
                server.url, bytes(20_000_000), timeouts=Timeouts(first_byte_s=0.05)
            )
            with pytest.raises(ModelTimeoutError) as caught:
                async with transport.send(request):
                    pytest.fail("it has an answer")
            assert caught.value.code == "first_byte_s"

    run(main)


def test_a_steady_stream_has_no_idle_bound_as_a_whole() -> None:
    """`idle_s` is from one piece to the next, not from the first to the last."""

    async def handle(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED)
        began = trio.current_time()
        while trio.current_time() < began + 1.2:
            await visit.send(b"1\r\na\r\n")
        await visit.send(b"0\r\n\r\n")

    async def main() -> None:
        async with upstream(handle) as server, open_transport() as transport:
            assert await fetch(transport, server.url, Timeouts(idle_s=1.0))

    run(main)
