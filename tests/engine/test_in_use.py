"""Bindings serve one run of Trio at a time, and the process that they were first used in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from orchestra import open_engine
from orchestra.config import LocalBindings, default_bindings
from orchestra.engine.in_use import InUse
from orchestra.errors import RunError


@pytest.fixture
def bindings(tmp_path: Path) -> Iterator[LocalBindings]:
    with default_bindings(tmp_path, environ={}) as bindings:
        yield bindings


def used_elsewhere(bindings: LocalBindings) -> None:
    async def main() -> None:
        async with open_engine(bindings):
            pass

    trio.run(main)


def test_bindings_in_use_are_refused_to_another_thread(bindings: LocalBindings) -> None:
    async def main() -> None:
        async with AsyncExitStack() as one, AsyncExitStack() as other:
            await one.enter_async_context(open_engine(bindings))
            await other.enter_async_context(open_engine(bindings))
            for stack in (other, one):  # as long as any engine is open on them
                with pytest.raises(RunError, match="another run of Trio uses these bindings"):
                    await trio.to_thread.run_sync(used_elsewhere, bindings)
                await stack.aclose()
            await trio.to_thread.run_sync(used_elsewhere, bindings)
            async with open_engine(bindings):
                pass

    trio.run(main)


def test_bindings_serve_one_run_after_the_other(bindings: LocalBindings) -> None:
    for _ in range(3):
        used_elsewhere(bindings)


def test_a_run_that_has_ended_uses_nothing_even_if_its_engine_was_never_closed() -> None:
    in_use = InUse()
    left = []

    async def leave_open() -> None:
        left.append(in_use.by_this_run())
        left[-1].__enter__()

    async def use() -> None:
        with in_use.by_this_run():
            left[0].__exit__(None, None, None)
            with pytest.raises(RunError):
                await trio.to_thread.run_sync(trio.run, leave_open)

    trio.run(leave_open)
    trio.run(use)


def test_a_forked_process_is_refused_what_its_parent_has_used(tmp_path: Path) -> None:
    """It has the parent's connections, and would read the answers to its parent's questions."""
    script = tmp_path / "forking.py"
    script.write_text(
        "import os, sys, trio\n"
        "from orchestra import open_engine\n"
        "from orchestra.config import default_bindings\n"
        "async def main():\n"
        "    async with open_engine(bindings):\n"
        "        pass\n"
        "with default_bindings(environ={}) as bindings:\n"
        "    trio.run(main)\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        try:\n"
        "            trio.run(main)\n"
        "        except BaseException as error:\n"
        "            print(type(error).__name__, error, flush=True)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
    )
    command = [sys.executable, str(script)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("RunError open_engine(bindings): these bindings were used before ")
