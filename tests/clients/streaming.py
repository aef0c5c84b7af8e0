"""One of several servers over one SQLite state, as a process: `python -m tests.clients.streaming
STATE PORT` prints its URL and serves until it is killed. Each line on its standard input is a chunk
of the run that is under way in it; an empty one ends that.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext
from functools import partial

import trio

from orchestra.errors import OverloadedError
from orchestra.graph.pipelines import pipeline
from orchestra.graph.steps import step
from orchestra.protocols import Context, Stream, injected
from orchestra.runs.settings import RunsSettings
from orchestra.server.connections.sockets import bind
from orchestra.server.front.cors import Cors
from orchestra.server.front.layers import Admission
from orchestra.server.processes.serve import serve_loaded
from orchestra.server.processes.serving import House, Loaded
from orchestra.server.settings import Settings
from orchestra.stores.state.sqlite import SqliteState

SETTINGS = Settings(
    runs=RunsSettings(heartbeat_s=0.3, dead_after_s=4), linger_s_of={"awaiting": 60.0}
)


@step
async def heard() -> AsyncIterator[str]:
    while line := (
        await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    ).strip():
        yield line


@pipeline
def told() -> Stream[str]:
    """What is written to the process."""
    return heard()


@pipeline
def awaiting() -> Stream[str]:
    """The same, and who has left may come back."""
    return heard()


@step
async def begun() -> AsyncIterator[str]:
    yield "one"
    await trio.sleep_forever()


@pipeline
def unending() -> Stream[str]:
    """A first word, and nothing more."""
    return begun()


@step
async def overloaded(*, context: Context = injected) -> AsyncIterator[str]:
    context.tell("sources", ["doors.md"])
    yield "one"
    raise OverloadedError("no room", retry_after_s=6.5)


@pipeline
def failing() -> Stream[str]:
    """Its sources, a first word, and an error."""
    return overloaded()


PIPELINES = {"told": told, "awaiting": awaiting, "unending": unending, "failing": failing}


async def admit() -> Admission:
    """Everybody, from any page."""
    return Admission(cors=Cors(origins=frozenset({"*"})))


if __name__ == "__main__":
    with SqliteState(sys.argv[1], timeout_s=5) as state:
        loaded = Loaded(
            PIPELINES,
            settings=SETTINGS,
            admit=admit,
            state=state,
        )
        listen = partial(bind, "127.0.0.1", int(sys.argv[2]))
        announce = partial(print, flush=True)
        house = House(reloads=False)
        trio.run(
            partial(serve_loaded, lambda: nullcontext(loaded), listen, house, on_ready=announce)
        )
