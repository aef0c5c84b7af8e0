"""Does a server come back to where it was, and does its money add up, after a while of all sorts?

`python benchmarks/soak.py [--minutes 10] [--quick] [--state URL]`: clients ask for answers, whole
and streamed, leave in the middle, and start runs that they cancel, of two workers with limits and
budgets; one of these is killed, and both are reloaded, again and again. Then what they hold is
compared with what they held after a warm-up, and what callers have spent with what `/metrics` and
clients say. Prints a table; exits with 1 where a row of it is wrong. `--quick` takes 20 seconds.
What the workers share is in a file, or in the Redis of `--state`, which has to be empty.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import httpx2
import msgspec
import trio

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # started as a file, so that no installation is needed

from benchmarks.contenders.relays import Place, asked, ours  # noqa: E402 - needs the line above
from benchmarks.servers.process import private_bytes, served, wait_idle  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

TIMEOUTS = "timeouts = { total_s = 10 }"
WORKERS = 2
CLIENTS = 8
WARM_UP = 120
SETTLE_S = 20.0
TOKENS = 20
MOST_NANODOLLARS = 9 * 150 + TOKENS * 600
"""What a call costs at the most, at the prices of `ours` and the provider's counts."""
LOST_CALLS = 13
"""Calls of one client that end in the time for which a killed worker has not written its counts."""
HOLD_S = 80.0
"""After which nothing is held by a worker that was killed: the longest call, and a minute."""
RUNNING = (
    "orchestra_runs_running",
    "orchestra_model_calls_running",
    "orchestra_model_calls_waiting",
)


@attrs.frozen
class Row:
    """A line of the table: what was there before and after, and how much more is not wrong."""

    what: str
    before: float
    after: float
    more_max: float
    less_max: float = math.inf

    @property
    def right(self) -> bool:
        """Whether it is as it has to be."""
        return -self.less_max <= self.after - self.before <= self.more_max


@attrs.frozen
class Held:
    """What the worker that has most of it holds."""

    descriptors: int
    threads: int
    private_mb: float

    @classmethod
    def by(cls, workers: Sequence[int]) -> Held:
        """What these hold now."""
        return cls(
            max(len([*Path(f"/proc/{each}/fd").iterdir()]) for each in workers),
            max(len([*Path(f"/proc/{each}/task").iterdir()]) for each in workers),
            max(private_bytes(each) for each in workers) / 1e6,
        )


@attrs.define
class Soak:
    """A server under load, and what its clients have seen."""

    pid: int
    url: str
    config: Path
    key: str
    metrics_key: str
    seen: Counter[str] = attrs.field(factory=Counter)
    told_nanodollars: int = 0
    kills: int = 0

    async def client(self, number: int, most: float) -> None:
        """Ask for one thing after the other."""
        chance = random.Random(number)
        acts = (self.whole, self.whole, self.stream, self.left, self.run_left, self.cancelled)
        headers = {"Authorization": f"Bearer {self.key}"}
        async with httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=30) as http:
            while self.seen.total() < most:
                act = chance.choice(acts)
                try:
                    await act(http)
                except httpx2.TransportError:
                    self.seen["failed"] += 1
                else:
                    self.seen[act.__name__] += 1

    async def whole(self, http: httpx2.AsyncClient) -> None:
        """A whole answer."""
        found = await self.answered(http, "/v1/chat/completions", asked(TOKENS, streamed=False))
        usage = found.get("usage", {}).get("orchestra", {})
        self.told_nanodollars += usage.get("cost_nanodollars", 0)

    async def stream(self, http: httpx2.AsyncClient, chunks: float = math.inf) -> None:
        """A streamed answer, of which so many chunks are read."""
        body = asked(TOKENS, streamed=True)
        await self.read(chunks, http.stream("POST", "/v1/chat/completions", json=body))

    async def left(self, http: httpx2.AsyncClient) -> None:
        """A streamed answer that is left in the middle."""
        await self.stream(http, 2)

    async def run_left(self, http: httpx2.AsyncClient) -> None:
        """A run whose client leaves, which cancels it."""
        path, headers = "/v1/pipelines/ticks/runs?every_s=0.02", {"Accept": "text/event-stream"}
        await self.read(1, http.stream("GET", path, headers=headers))

    async def read(
        self, chunks: float, stream: AbstractAsyncContextManager[httpx2.Response]
    ) -> None:
        """So many chunks of an answer, which is left then."""
        async with stream as answer:
            self.seen["failed"] += answer.is_error
            async for _ in answer.aiter_raw():
                chunks -= 1
                if chunks <= 0:
                    break

    async def cancelled(self, http: httpx2.AsyncClient) -> None:
        """A run in the background that is cancelled, often by the other worker.

        Without that it would never end: the end of the load does not come between.
        """
        body, apart = {"inputs": {"every_s": 0.05}}, {"Prefer": "respond-async"}
        with trio.CancelScope(shield=True):
            run = await self.answered(http, "/v1/pipelines/ticks/runs", body, headers=apart)
            for _ in range(WORKERS if "id" in run else 0):
                try:
                    ended = await http.delete(f"/v1/runs/{run['id']}")
                except httpx2.TransportError:
                    self.seen["failed"] += 1  # of a worker that was killed; the run may go on
                else:
                    self.seen["failed"] += ended.is_error
                    break

    async def answered(
        self, http: httpx2.AsyncClient, path: str, body: Any, **more: Any
    ) -> dict[str, Any]:
        """The JSON of an answer; nothing, and one that failed, where it is an error."""
        answer = await http.post(path, json=body, **more)
        self.seen["failed"] += answer.is_error
        found: dict[str, Any] = {} if answer.is_error else answer.json()
        return found

    async def faults(self, load_s: float) -> None:
        """Kill a worker and reload both, every half a minute."""
        rounds = max(1, int(load_s / 30))
        for _ in range(rounds):
            await trio.sleep(load_s / rounds / 3)
            os.kill(self.workers()[self.kills % WORKERS], signal.SIGKILL)
            self.kills += 1
            await trio.sleep(load_s / rounds / 3)
            os.kill(self.pid, signal.SIGHUP)
            await trio.sleep(load_s / rounds / 3)

    async def load(self, load_s: float, most: float = math.inf) -> None:
        """All clients, until they have done `most`; or for so long, and then with faults."""
        with trio.move_on_after(load_s):
            async with trio.open_nursery() as nursery:
                for number in range(CLIENTS):
                    nursery.start_soon(self.client, number, most)
                if load_s < math.inf:
                    nursery.start_soon(self.faults, load_s)

    async def metrics(self) -> dict[str, float]:
        """All that is counted, added up over labels."""
        headers = {"Authorization": f"Bearer {self.metrics_key}"}
        async with httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=30) as http:
            text = (await http.get("/metrics")).raise_for_status().text
        found = defaultdict[str, float](float)
        for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE):
            found[name] += float(value)
        return found

    async def settle(self, hold_s: float) -> None:
        """Wait until nothing goes on and, for so long, until nothing is held of budgets."""
        wait_idle(self.pid, SETTLE_S)
        await until(self.at_rest, SETTLE_S)
        await until(self.nothing_held, hold_s)

    async def at_rest(self) -> bool:
        """Whether nothing goes on, as the server says."""
        counted = await self.metrics()
        return not any(counted[name] for name in RUNNING)

    async def nothing_held(self) -> bool:
        """Whether no call holds money any more."""
        return not any(each["held_nanodollars"] for each in self.budgets())

    def workers(self) -> list[int]:
        """The processes that serve."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return sorted(map(int, children.split()))

    def budgets(self) -> list[dict[str, Any]]:
        """Those of the caller, their organisation and their key."""
        found = cli("budgets", "list", "--json", "--config", str(self.config))
        return [each for each in msgspec.json.decode(found) if each["organisation"] == "acme"]

    async def rows(self, before: Held, *, quick: bool) -> Sequence[Row]:
        """What there is to be said once all has settled."""
        await self.settle(0 if quick else HOLD_S)
        now, counted, budgets = Held.by(self.workers()), await self.metrics(), self.budgets()
        spent = [each["spent_nanodollars"] / 1e9 for each in budgets]
        metered, told = counted["orchestra_model_cost_dollars_total"], self.told_nanodollars / 1e9
        lost = self.kills * CLIENTS * LOST_CALLS * MOST_NANODOLLARS / 1e9
        rows = [
            *(Row(name, 0, counted[name], 0) for name in RUNNING),
            Row("descriptors of a worker", before.descriptors, now.descriptors, CLIENTS),
            Row("threads of a worker", before.threads, now.threads, 4),
            Row("private memory of a worker, MB", before.private_mb, now.private_mb, 12),
            Row("workers that ended", self.kills, counted["orchestra_worker_ends_total"], 0, 0),
            Row("what failed", 0, self.seen["failed"], self.kills * CLIENTS),
            Row("dollars of a budget: least and most", min(spent), max(spent), 0, 0),
            Row("dollars in metrics and in budgets", metered, max(spent), lost, 1e-12),
            Row("dollars told and in budgets", told, max(spent), math.inf, 0),
        ]
        held = max(each["held_nanodollars"] for each in budgets) / 1e9
        return rows if quick else [*rows, Row("dollars held", 0, held, 0)]


async def until(asking: Callable[[], Awaitable[bool]], within_s: float) -> None:
    """Wait until it is so, for so long."""
    with trio.move_on_after(within_s):
        while not await asking():  # noqa: ASYNC110 - other processes set no event
            await trio.sleep(0.3)


def cli(*words: str) -> str:
    """What a command of ours prints."""
    command = (sys.executable, "-m", "orchestra", *words)
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.check_output(command, cwd=ROOT, env=environ, text=True).strip()


async def soaked(soak: Soak, load_s: float, *, quick: bool) -> bool:
    """Whether all was right after a load of so many seconds."""
    await soak.load(math.inf, WARM_UP)
    await soak.settle(0)
    before = Held.by(soak.workers())
    await soak.load(load_s)
    print(f"{load_s:g} s, {soak.kills} kills and reloads; {dict(soak.seen)}")
    print(f"{'':44}{'before':>12}{'after':>12}{'at most':>12}")
    right = True
    for row in await soak.rows(before, quick=quick):
        most = row.before + row.more_max
        verdict = "" if row.right else "  WRONG"
        print(f"{row.what:44}{row.before:12.6g}{row.after:12.6g}{most:12.6g}{verdict}")
        right = right and row.right
    return right


def main() -> int:
    """Start a provider and a server, and soak it; 0 if all was right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--quick", action="store_true", help="does it still run? 20 seconds")
    parser.add_argument("--state", default="sqlite:state.sqlite", help="what the workers share")
    chosen = parser.parse_args()
    load_s = 9.0 if chosen.quick else 60 * chosen.minutes
    provider_of = ("-m", "benchmarks.servers.provider", "0.01", "0.02")
    with tempfile.TemporaryDirectory() as folder, served(provider_of) as provider:
        started = ours(Place(Path(folder), provider.port, WORKERS, chosen.state))
        config = Path(folder, "orchestra.toml")
        config.write_text(config.read_text().replace("\nprices", f"\n{TIMEOUTS}\nprices"))
        reads = cli("keys", "create", "--user", "p", "--metrics", "--config", str(config))
        with served(started.arguments, environ=started.environ) as server:
            wait_idle(server.pid, SETTLE_S)
            url = f"http://127.0.0.1:{server.port}"
            soak = Soak(server.pid, url, config, started.key, reads)
            return 0 if trio.run(partial(soaked, soak, load_s, quick=chosen.quick)) else 1


if __name__ == "__main__":
    sys.exit(main())
