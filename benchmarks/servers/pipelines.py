"""The pipeline that ours serves: an event now, and another each `every_s` seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count

import trio

from orchestra import Stream, pipeline, step


@step
async def tick(every_s: float) -> AsyncIterator[str]:
    """Tokens without end; who listens decides how many."""
    began = trio.current_time()
    for seq in count(1):
        yield "token "
        await trio.sleep_until(began + seq * every_s)


@pipeline
def ticks(every_s: float) -> Stream[str]:
    """One step whose stream is the run's output."""
    return tick(every_s)
