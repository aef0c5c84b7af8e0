"""What a call costs that is cancelled: nothing, until a byte of its request has gone out."""

from __future__ import annotations

import pytest
import trio

from orchestra.accounts import UNSENT, Certainty, Usage
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.errors import ModelConnectionError
from orchestra.policies.account import PRESENT, NoAccount
from orchestra.policies.answers.accounting import was_unsent
from orchestra.policies.guard import GuardedModel
from orchestra.policies.money.prices import Price
from orchestra.protocols import HttpRequest
from orchestra.providers.connections.pool import HttpLimits
from orchestra.providers.credentials import bearer
from orchestra.providers.network import open_transport
from orchestra.providers.remote import Endpoint, RemoteModel
from orchestra.secret import Secret
from orchestra.values import ChatRequest, Message
from tests.providers.upstream import OK, Visit, answering, fetch, run, until, upstream

ASKED = ChatRequest((Message("user", "x" * 30),))


class Told(NoAccount):
    def __init__(self) -> None:
        self.usages: list[Usage] = []

    def used(self, usage: Usage, model: str = "") -> None:
        self.usages.append(usage)


@pytest.mark.parametrize("act", ["stream", "complete"])
@pytest.mark.parametrize("waits_for", ["a place", "a handshake", "an answer"])
def test_a_call_that_is_cancelled_costs_nothing_until_it_is_sent(waits_for: str, act: str) -> None:
    account, scope = Told(), trio.CancelScope()

    async def silent(visit: Visit) -> None:
        if waits_for != "a handshake":
            await visit.request()
        await visit.left()

    async def ask(model: GuardedModel) -> None:
        PRESENT.set(account)
        with scope:
            if act == "complete":
                await model.complete(ASKED)
            async with model.stream(ASKED):
                pytest.fail("nothing has answered")

    async def main() -> None:
        limits = HttpLimits(connections_max=1)
        async with (
            upstream(silent) as server,
            open_transport(limits=limits) as transport,
            trio.open_nursery() as nursery,
        ):
            if waits_for == "a place":
                nursery.start_soon(fetch, transport, server.url)
                await until(lambda: bool(server.visits))
            scheme = "https" if waits_for == "a handshake" else "http"
            endpoint = Endpoint(
                provider="acme",
                model="m",
                base_url=f"{scheme}://127.0.0.1:{server.port}",
                dialect=OpenAiDialect(),
                credentials=bearer(Secret("sk")),
            )
            price = Price(input=1_000_000, output=2_000_000)
            model = GuardedModel(RemoteModel(endpoint, transport), name="m", price=price)
            nursery.start_soon(ask, model)
            await until(lambda: bool(server.visits))
            (place,) = transport._pool._places.values()
            if waits_for == "a place":
                await until(lambda: place.waiting == 1)
            elif waits_for == "an answer":
                await server.visits[0].asked.wait()
            scope.cancel()
            await until(lambda: model.state().load.running == 0)
            nursery.cancel_scope.cancel()

    run(main)
    assert scope.cancelled_caught
    if waits_for == "an answer":
        (usage,) = account.usages
        assert usage.certainty is Certainty.ESTIMATED
        assert usage.cost_nanodollars > 0
    else:
        assert account.usages == []


def test_a_kept_connection_is_not_asked_for_who_was_cancelled_and_that_is_told() -> None:
    async def main() -> None:
        async with upstream(answering(OK)) as server, open_transport() as transport:
            await fetch(transport, server.url)
            with trio.CancelScope() as scope:
                scope.cancel()
                with pytest.raises(trio.Cancelled) as caught:
                    async with transport.send(HttpRequest(server.url)):
                        pytest.fail("it was asked")
                assert caught.value.__notes__ == [UNSENT]

    run(main)


def test_what_a_kept_connection_has_taken_is_not_unsent_where_there_is_no_other() -> None:
    """A server that dies over a request has been asked, also if it was kept from the one before."""

    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"

        async def serve() -> None:
            stream = await listener.accept()
            await stream.receive_some()
            await stream.send_all(OK)
            assert await stream.receive_some()
            await listener.aclose()
            await stream.aclose()

        async with open_transport() as transport, trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await fetch(transport, url)
            with pytest.raises(ModelConnectionError) as caught:
                await fetch(transport, url)
            assert caught.value.code == "connect"
            assert not was_unsent(caught.value)

    run(main)
