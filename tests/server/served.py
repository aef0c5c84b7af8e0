"""Pipelines that the server's tests serve, and, run as a program, a server of them.

`python -m tests.server.served '{"drain_s": 0.5}'` prints its URL and serves until a signal.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import attrs
import msgspec
import trio

from orchestra.errors import (
    AuthenticationError,
    InvalidRequestError,
    ModelError,
    ModelsFailedError,
    OverloadedError,
)
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.rules.policy import Policy
from orchestra.graph.steps import step
from orchestra.protocols import Stream
from orchestra.server.processes.serve import serve
from orchestra.server.settings import Settings


@step
async def numbers(count: int, *, hold: bool) -> AsyncIterator[str]:
    for number in range(count):
        yield f"{number} "
    if hold:
        await trio.sleep_forever()


@step
async def line(question: str) -> AsyncIterator[str]:
    yield question
    yield await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)


@step
async def gated() -> AsyncIterator[str]:
    yield "held"
    yield await GATE.opened()


@attrs.define
class Gate:
    """What a line on standard input opens, for all who wait."""

    _line: str = ""
    _lock: trio.Lock = attrs.field(factory=trio.Lock)

    async def opened(self) -> str:
        """The line, once it is there."""
        async with self._lock:
            if not self._line:
                read = sys.stdin.readline
                self._line = await trio.to_thread.run_sync(read, abandon_on_cancel=True)
        return self._line


GATE = Gate()


@step
async def flood() -> AsyncIterator[str]:
    while True:
        yield "x" * 1024


@step(policy=Policy(timeout_s=0.05))
async def breaking(how: str) -> str:
    if how == "foreign":
        raise KeyError("sk-123, the key in the cupboard")
    if how == "model":
        raise ModelError("the model says no")
    if how == "key":
        both = {"a": AuthenticationError("who?"), "b": InvalidRequestError("seed=7 cannot be")}
        raise ModelsFailedError("all models failed", both)
    if how == "full":
        full = {"a": OverloadedError("no room", retry_after_s=6.5), "b": ModelError("no")}
        raise ModelsFailedError("all models failed", full)
    if how == "refused":
        raise InvalidRequestError("temperature: 9 is too hot")
    await trio.sleep_forever()
    raise AssertionError("nothing comes behind for ever")


@step
async def doubled(number: int) -> int:
    return 2 * number


@pipeline
def count(count: int = 10, hold: bool = False) -> Stream[str]:
    """Count up from nought.

    With `hold`, stay silent behind the last number.
    """
    return numbers(count, hold=hold)


@pipeline
def told(question: str) -> Stream[str]:
    """What a line on the server's standard input answers."""
    return line(question)


@pipeline
def gate() -> Stream[str]:
    """What the first line on the server's standard input says, to all who wait for it."""
    return gated()


@pipeline
def endless() -> Stream[str]:
    """As much as you can take, a kilobyte at a time."""
    return flood()


@pipeline
def broken(how: str) -> str:
    """Fail in the way that is asked for."""
    return breaking(how)


@pipeline
def twice(number: int) -> int:
    """Twice a number."""
    return doubled(number)


PIPELINES: dict[str, Pipeline[..., Any]] = {
    "count": count,
    "told": told,
    "gate": gate,
    "endless": endless,
    "broken": broken,
    "twice": twice,
}

if __name__ == "__main__":
    settings = Settings(**msgspec.json.decode(sys.argv[1]))
    announce = partial(print, flush=True)
    trio.run(partial(serve, PIPELINES, port=0, settings=settings, on_ready=announce))
