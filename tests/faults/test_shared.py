"""Budgets, limits of callers and of models, and caches of two deployments with one state, over real sockets.

And what becomes of their calls when that state is killed or paused: each policy does what its
configuration says, open or closed, in time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from orchestra import Stream, pipeline
from orchestra.accounts import Caller
from orchestra.config.bindings import LocalBindings
from orchestra.config.deployment.deployment import EMBEDDED
from orchestra.config.reading import read
from orchestra.engine.engine import Engine, open_engine
from orchestra.events import Event, RunFailed, RunFinished, StepCached
from orchestra.steps.generate import generate
from tests.faults.misbehaving import HEALTHY, speaks
from tests.faults.stand import follow
from tests.patience import PATIENCE_S
from tests.providers.upstream import run, upstream
from tests.servers.redis import Redis, redis

ADA = Caller("acme", "ada")
IN_TIME_S = 3.0
"""Of a call whose state is away: twice 50 ms, a connection, and what a busy machine takes."""
MODEL = """
[models.default]
provider = "openai"
model = "m"
base_url = "http://127.0.0.1:{port}/v1"
key_env = "KEY"
prices = {{ input = 1, output = 2 }}

[state]
url = "{url}"
timeout_s = {timeout_s}
"""
SLOW_S = 10.0
"""Where the state is not what is tested, it may take as long."""


@pipeline
def answer(asked: str) -> Stream[str]:
    return generate(asked, model="default", output_tokens_max=10)


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with redis() as started:
        yield started


def url_of(how: str, server: Redis, tmp_path: Path) -> str:
    return (
        f"redis://127.0.0.1:{server.port}/0" if how == "redis" else f"sqlite:{tmp_path / 'state'}"
    )


def deployed(text: str, tmp_path: Path) -> LocalBindings:
    file = tmp_path / "orchestra.toml"
    return LocalBindings(tmp_path, read(text, file, EMBEDDED), {"KEY": "sk-test"})


async def outcome(engine: Engine, asked: str = "Count.") -> list[Event]:
    events: list[Event] = []
    await follow(engine.start(answer, {"asked": asked}, caller=ADA), events)
    return events


def ends(runs: list[list[Event]]) -> Counter[str]:
    return Counter(
        last.error if isinstance(last := events[-1], RunFailed) else last.type for events in runs
    )


@pytest.mark.parametrize("how", ["sqlite", "redis"])
@pytest.mark.parametrize(
    ("policy", "error"),
    [
        # a call holds 6 tokens at 1 and 10 at 2 dollars for a million: 26,000 nano-dollars
        ('[budgets.user]\nday = "0.00008"\n', "BudgetHeldError"),
        ("[limits.organisation]\nconcurrency = 3\nwait_max_s = 0\n", "LimitReachedError"),
        (
            "[models.default.limits]\nshared = true\nconcurrency = 3\nwait_max_s = 0.01\n",
            "LimitReachedError",
        ),
    ],
    ids=["budget", "limit", "model"],
)
def test_two_deployments_with_one_state_admit_together_what_one_would(
    how: str, policy: str, error: str, server: Redis, tmp_path: Path
) -> None:
    """Ten calls at once in each of them, and room for three."""
    runs: list[list[Event]] = []
    server.kill()
    server.start()

    async def main() -> None:
        go = trio.Event()

        async def one(engine: Engine) -> None:
            runs.append(await outcome(engine))
            if len(runs) == 2 * 10 - 3:  # whoever was refused: now those who were not may go on
                go.set()

        async def patient(visit: object) -> None:
            await go.wait()
            await speaks(HEALTHY)(visit)  # type: ignore[arg-type]

        async with upstream(patient) as upstreams:
            url = url_of(how, server, tmp_path)
            text = MODEL.format(port=upstreams.port, url=url, timeout_s=SLOW_S) + policy
            with ExitStack() as stack:
                both = [stack.enter_context(deployed(text, tmp_path)) for _ in range(2)]
                async with (
                    open_engine(both[0]) as first,
                    open_engine(both[1]) as second,
                    trio.open_nursery() as nursery,
                ):
                    for engine in [first, second] * 10:
                        nursery.start_soon(one, engine)

    run(main)
    assert ends(runs) == {error: 17, "run.finished": 3}


@pytest.mark.parametrize("how", ["sqlite", "redis"])
def test_what_one_deployment_has_cached_another_has(
    how: str, server: Redis, tmp_path: Path
) -> None:
    async def main() -> list[list[Event]]:
        async with upstream(speaks(HEALTHY)) as upstreams:
            url = url_of(how, server, tmp_path)
            text = MODEL.format(port=upstreams.port, url=url, timeout_s=SLOW_S)
            text = text.replace("prices", "cache = { ttl_s = 60 }\nprices")
            runs = []
            for _ in range(2):
                with deployed(text, tmp_path) as bindings:
                    async with open_engine(bindings) as engine:
                        runs.append(await outcome(engine))
            assert len(upstreams.visits) == 1
            return runs

    first, second = run(main)
    assert isinstance(first[-1], RunFinished)
    assert isinstance(second[-1], RunFinished)
    assert first[-1].result == second[-1].result == "".join(HEALTHY)
    assert second[-1].usage is None or second[-1].usage.cost_nanodollars == 0
    assert [type(event) for event in second].count(StepCached) == 1


@pytest.mark.parametrize("away", ["killed", "paused"])
@pytest.mark.parametrize("when", ["open", "closed"])
@pytest.mark.parametrize(
    ("policy", "error"),
    [
        ('[budgets.user]\nday = "1"\n', "StateError"),
        ("[limits.user]\nrequests_per_minute = 600\n", "LimitUnknownError"),
    ],
    ids=["budget", "limit"],
)
def test_a_state_that_is_away_fails_open_or_closed_in_time_and_is_found_again(  # noqa: PLR0917 - all of them are drawn from tables
    policy: str, error: str, when: str, away: str, server: Redis, tmp_path: Path
) -> None:
    server.kill()
    server.start()

    async def main() -> None:
        async with upstream(speaks(HEALTHY)) as upstreams:
            url = f"redis://127.0.0.1:{server.port}/0"
            text = MODEL.format(port=upstreams.port, url=url, timeout_s=0.05)
            text += f'{policy}when_state_fails = "{when}"\n'
            with deployed(text, tmp_path) as bindings:
                _ = bindings.state  # which imports what it needs, before the clock runs
                async with open_engine(bindings) as engine:
                    await answered(engine)
                    if away == "killed":
                        server.kill()
                    else:
                        server.pause()
                    for _ in range(3):
                        began_s = time.monotonic()
                        (last,) = (await outcome(engine))[-1:]
                        assert time.monotonic() - began_s < IN_TIME_S
                        if when == "open":
                            assert isinstance(last, RunFinished)
                        else:
                            assert isinstance(last, RunFailed)
                            assert last.error == error
                            assert f"redis://127.0.0.1:{server.port}/0" in last.message
                    if away == "killed":
                        server.start()
                    else:
                        server.resume()
                    await answered(engine)

    run(main)


async def answered(engine: Engine) -> None:
    """Until the state is there: no restart of ours, but its rest may have to end."""
    with trio.fail_after(PATIENCE_S):
        last: Event | None = None
        while not isinstance(last, RunFinished):
            last = (await outcome(engine))[-1]
