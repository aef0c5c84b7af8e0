"""An engine lives in one run of Trio; another thread asks that one to run its pipelines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import trio

from orchestra import Engine, open_engine, pipeline, step
from orchestra.errors import RunError


@step
async def double(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * number


@pipeline
def doubled(number: int) -> int:
    return double(number)


def run_in_its_own_trio(engine: Engine) -> object:
    return trio.run(engine.run, doubled, 1)


def start_in_its_own_trio(engine: Engine) -> object:
    async def main() -> object:
        return engine.start(doubled, {"number": 1})

    return trio.run(main)


def start_without_trio(engine: Engine) -> object:
    return engine.start(doubled, {"number": 1})


@pytest.mark.parametrize("ask", [run_in_its_own_trio, start_in_its_own_trio, start_without_trio])
def test_a_run_in_another_thread_is_refused_with_what_to_write(
    ask: Callable[[Engine], object],
) -> None:
    async def main() -> None:
        async with open_engine() as engine:
            with pytest.raises(RunError, match=r"`trio\.from_thread\.run\(engine\.run, pipeline, "):
                await trio.to_thread.run_sync(ask, engine)
            assert not engine.runs
            assert await engine.run(doubled, 2) == 4

    trio.run(main)


def test_another_thread_has_a_pipeline_run_where_the_engine_is() -> None:
    async def main() -> None:
        async with open_engine() as engine:
            token = trio.lowlevel.current_trio_token()
            ask = partial(trio.from_thread.run, engine.run, doubled, 2, trio_token=token)
            assert await trio.to_thread.run_sync(ask) == 4

    trio.run(main)
