"""A shared call over a real connection: nothing is billed once the last waiter has left."""

from __future__ import annotations

import trio

from orchestra import Stream, pipeline
from orchestra.engine.engine import open_engine
from orchestra.engine.run import Run
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.providers.network import HttpTransport
from orchestra.providers.remote import RemoteModel
from orchestra.steps.generate import generate
from orchestra.testing.world import World
from tests.providers.upstream import CHUNKED, Visit, openai_endpoint, run, until, upstream

HEAD = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-type: text/event-stream\r\n\r\n")
TEXT = b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"Be"}}]}\n\n'
SOON_S = 0.05
LATER_S = 5.0
"""On a busy machine; who waits for the answer would wait for minutes."""


@pipeline
def answer(question: str) -> Stream[str]:
    return generate(question, model="m")


async def goes_on(visit: Visit) -> None:
    """Says something, and then nothing more."""
    await visit.request()
    await visit.send(HEAD, b"%x\r\n%s\r\n" % (len(TEXT), TEXT))
    await visit.left()


def said(run: Run) -> bool:
    return any(event.type == "delta" for event in run.journal.kept)


def test_the_socket_is_closed_when_the_last_has_left_and_not_before() -> None:
    async def main() -> None:
        transport = HttpTransport()
        async with upstream(goes_on) as server:
            endpoint = openai_endpoint(server)
            shared = CoalescedModel(RemoteModel(endpoint, transport), name="m")
            async with open_engine(World(models={"m": shared})) as engine:
                first, second = (engine.start(answer, {"question": "why?"}) for _ in range(2))
                await until(lambda: said(first) and said(second))
                (visit,) = server.visits
                first.cancel("it has left")
                await first.wait_ended()
                with trio.move_on_after(SOON_S):
                    await visit.gone.wait()
                assert not visit.gone.is_set()
                left_at = trio.current_time()
                second.cancel("it has left, too")
                await visit.gone.wait()
                assert visit.gone_at - left_at < LATER_S
                assert shared.flights == 0
        transport.close()

    run(main)
