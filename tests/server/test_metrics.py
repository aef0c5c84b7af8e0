"""`/metrics`: what the server has done, for those whose key was made to read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families as parsed

from orchestra.access.keyring import Keyring
from orchestra.access.wanted import NewKey
from orchestra.engine.engine import open_engine
from orchestra.observe import names
from orchestra.observe.counting import Counting
from orchestra.observe.metrics import Metrics
from orchestra.observe.shared_tallies import SharedTallies
from orchestra.server.app import create_app
from orchestra.server.front.departure import LEFT
from orchestra.server.front.layers import OPEN, Admission
from orchestra.server.metrics import APART, ROOM
from orchestra.server.processes.serving import House as ServerHouse
from orchestra.server.processes.serving import Loaded, Serving
from orchestra.server.settings import Settings
from orchestra.stores.state.memory import MemoryState
from tests.access.test_token import other_end
from tests.server.served import PIPELINES
from tests.server.test_health import Known
from tests.server.wire import House, Reply, open_house

ASKED = "GET /metrics HTTP/1.1"
TYPES = "urn:problem-type:orchestra:"
COUNTS = "GET /v1/pipelines/count/runs?count={n} HTTP/1.1\nAccept: {accept}"


@asynccontextmanager
async def counted(
    admission: Admission = OPEN, board: SharedTallies | None = None
) -> AsyncIterator[tuple[House, Counting]]:
    counting = Counting(Metrics({}), board)
    async with open_engine(observe=counting.metrics.observe) as engine:
        app = create_app(engine, PIPELINES, Settings(), admission, counting=counting)
        counting.measure = lambda tally: tally.set(names.RUNS_RUNNING, (), len(engine.runs))
        async with open_house(app, Settings()) as house:
            yield house, counting


async def running(counting: Counting) -> int:
    return (await counting.total()).gauges[names.RUNS_RUNNING.name][()]


def requests(counting: Counting) -> Counter[tuple[str, ...]]:
    """How often each method, scheme, route and status was answered."""
    found = counting.metrics.tally.histograms.get(names.HTTP_DURATION.name, {})
    return Counter({labels: sum(each.counts) for labels, each in found.items()})


async def settled(counting: Counting, number: int) -> Counter[tuple[str, ...]]:
    """The same, once there were so many: the last moments of one go on behind its answer."""
    while (found := requests(counting)).total() < number:
        await trio.lowlevel.checkpoint()
    return found


def test_requests_are_counted_by_route_and_status_and_a_stream_at_its_end() -> None:
    async def main() -> None:
        async with counted() as (house, counting):
            for accept in ("application/json", "text/event-stream"):
                client = await house.connect()
                await client.ask(COUNTS.format(n=2, accept=accept))
            client = await house.connect()
            assert (await client.ask("GET /v1/runs/0123 HTTP/1.1")).status == 404
            assert (await client.ask("DELETE /healthz HTTP/1.1")).status == 405
            assert (await client.ask("GET /nothing/here HTTP/1.1")).status == 404
            reply = await client.ask(ASKED)
            assert await settled(counting, 6) == {
                ("GET", "http", "/v1/pipelines/{name}/runs", "200"): 2,
                ("GET", "http", "/v1/runs/{run_id}", "404"): 1,
                ("DELETE", "http", "", "405"): 1,
                ("GET", "http", "", "404"): 1,
                ("GET", "http", "/metrics", "200"): 1,
            }
        assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert reply.headers["cache-control"] == "no-store"
        found = {each.name: each for each in parsed(reply.body.decode())}
        runs = [
            sample.value
            for sample in found[names.RUN_DURATION.name].samples
            if sample.name.endswith("_count")
        ]
        assert runs == [2]

    trio.run(main)


def test_a_client_that_leaves_is_counted_as_one_who_did() -> None:
    async def main() -> None:
        async with counted() as (house, counting):
            client = await house.connect()
            await client.send(
                "GET /v1/pipelines/count/runs?hold=true HTTP/1.1\nAccept: application/json"
            )
            while await running(counting) != 1:
                await trio.lowlevel.checkpoint()
            await client.stream.aclose()
            found = await settled(counting, 1)
            assert found == {("GET", "http", "/v1/pipelines/{name}/runs", str(LEFT)): 1}

    trio.run(main)


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=1.0.0", "*/*"])
def test_it_is_told_in_the_format_that_is_asked_for(accept: str) -> None:
    async def main() -> Reply:
        async with counted() as (house, _):
            return await (await house.connect()).ask(f"{ASKED}\nAccept: {accept}")

    reply = trio.run(main)
    assert reply.status == 200
    assert ("openmetrics" in reply.headers["content-type"]) == ("openmetrics" in accept)


def test_workers_that_cannot_put_together_what_they_count_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A counter that fell would be a new start for Prometheus: so nothing is told."""

    async def main() -> Reply:
        async with counted(board=SharedTallies(tmp_path / "gone", 1)) as (house, _):
            return await (await house.connect()).ask(ASKED)

    reply = trio.run(main)
    assert (reply.status, reply.json["type"]) == (503, f"{TYPES}service-unavailable")
    assert reply.json["detail"] == f"{APART}: No such file or directory; {ROOM}"
    assert not caplog.records, "no fault of the server"


def test_only_a_key_that_was_made_for_it_may_read_it() -> None:
    """What all organisations do together is nobody's business but the operator's."""

    async def main() -> list[int]:
        ring = Keyring(MemoryState())
        everything = NewKey(organisation="acme", pipelines=("*",), models=("*",))
        made = [
            await ring.create(everything),
            await ring.create(NewKey(user="prometheus", metrics=True)),
        ]
        heads = [ASKED, *(f"{ASKED}\nAuthorization: Bearer {each.text}" for each in made)]
        async with counted(Admission(keyring=ring)) as (house, counting):
            client = await house.connect()
            found = [(await client.ask(head)).status for head in heads]
            alone = f"GET /v1/pipelines HTTP/1.1\nAuthorization: Bearer {made[1].text}"
            assert (await client.ask(alone)).json == {"pipelines": []}
            wrong = f"{ASKED}\nAuthorization: Bearer {other_end(made[1].text)}"
            assert (await client.ask(wrong)).status == 401
            assert (await settled(counting, 5))["GET", "http", "", "401"] == 1
        return found

    assert trio.run(main) == [401, 403, 200]


class Heard(Known):
    """Bindings that note what the server wants to hear of."""

    heard: tuple[object, object] = (None, None)

    def prepare(self) -> bool:
        self.heard = self.on_call, self.on_budget
        return super().prepare()


def served(settings: Settings) -> tuple[Heard, Reply]:
    """What a whole server says."""
    bindings = Heard()

    async def main() -> Reply:
        loaded = Loaded(PIPELINES, bindings, settings)
        async with trio.open_nursery() as nursery:
            counting = Counting(Metrics({}))
            serving = Serving(lambda: nullcontext(loaded), nursery, ServerHouse(counting=counting))
            await serving.begin()
            async with open_house(serving, settings) as house:
                reply = await (await house.connect()).ask(ASKED)
            nursery.cancel_scope.cancel()
        return reply

    return bindings, trio.run(main)


def test_a_server_tells_how_its_models_are_and_hears_their_calls() -> None:
    bindings, reply = served(Settings())
    assert None not in bindings.heard
    assert (bindings.on_call, bindings.on_budget) == (None, None)  # when the server has ended
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parsed(reply.body.decode())
        for sample in family.samples
    }
    assert found["orchestra_runs_running",] == 0
    assert found["orchestra_model_calls_running", "smart"] == 1
    assert found["orchestra_model_calls_waiting", "smart"] == 2
    assert found["orchestra_caller_calls_waiting",] == 3
    states = {key[1:]: value for key, value in found.items() if key[0] == names.BREAKERS.name}
    assert states == {
        (model, state): float(state == now)
        for model, now in (("smart", "open"), ("fast", "closed"), ("new", "half-open"))
        for state in ("open", "closed", "half-open")
    }


def test_a_server_that_is_told_to_counts_nothing() -> None:
    bindings, reply = served(Settings(metrics=False))
    assert bindings.heard == (None, None)
    assert reply.status == 404
