"""Steps that the engine's tests are made of: each does one thing, and takes virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from orchestra import Stream, step


class Panic(BaseException):
    """As `pyo3_runtime.PanicException`: no Exception, and of no class that anybody knows."""


@step
async def numbers(n: int, every_s: float = 0.0) -> AsyncIterator[str]:
    """ "0", "1", ... each `every_s` after the one before."""
    for number in range(n):
        await trio.sleep(every_s)
        yield str(number)


@step
async def waits(value: object, for_s: float) -> str:
    """The value as text, after some seconds."""
    await trio.sleep(for_s)
    return str(value)


@step
async def fails(value: object, after_s: float = 0.0, message: str = "told to fail") -> str:
    """Nothing: it raises a ValueError after some seconds."""
    await trio.sleep(after_s)
    raise ValueError(message)


@step
def says(value: object) -> str:
    """The value as text, on the spot."""
    return str(value)


@step
def breaks(value: object) -> str:
    """Nothing: it raises on the spot."""
    raise KeyError(value)


@step
async def both(one: object, other: object) -> str:
    """Two values, joined by a bar."""
    return f"{one}|{other}"


@step
async def first(chunks: Stream[str], most: int = 1) -> str:
    """The first chunks of a stream, which it then leaves."""
    taken = ""
    async for chunk in chunks:
        taken += chunk
        most -= 1
        if not most:
            break
    return taken


@step
async def slowly(chunks: Stream[str], each_s: float) -> str:
    """All chunks, taking some seconds over each."""
    taken = ""
    async for chunk in chunks:
        await trio.sleep(each_s)
        taken += chunk
    return taken
