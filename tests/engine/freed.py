"""Whether runs that are done are freed: their output may be large."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from typing import Any

import trio
import trio.testing

from orchestra import Pipeline
from orchestra.engine.engine import open_engine
from orchestra.testing.virtual import virtual


def assert_freed_when_done(inputs: Mapping[str, object], *pipelines: Pipeline[..., Any]) -> None:
    """Each run is freed with its last reference, without the garbage collector."""

    async def main() -> None:
        async with open_engine() as engine:
            for plan in map(engine.plan, pipelines):
                run = engine.start(plan, inputs)
                await run.result()
                await engine.wait_idle()
                await trio.testing.wait_all_tasks_blocked()
                kept = weakref.ref(run)
                del run
                assert kept() is None

    gc.disable()
    try:
        virtual(main)
    finally:
        gc.enable()
