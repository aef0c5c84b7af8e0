"""Each fault of Trio's nurseries: it is there without the cure, and gone with it.

A test named `..._is_still_there` fails when a release of Trio mends the fault: then remove the cure
in `orchestra/server/processes/nurseries.py` and the tests of it.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Context, injected, open_engine, pipeline, step
from orchestra.answers import Completion
from orchestra.groups import leaves
from orchestra.policies.flights.coalesce import CoalesceRule
from orchestra.policies.flights.coalesced import CoalescedModel
from orchestra.protocols import Model, ModelReply
from orchestra.server.processes.nurseries import MENDED_AGAINST, mend_trio
from orchestra.server.processes.serve import serve
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import Capabilities, ChatRequest, Message, Stopped, StopReason, TextPart
from tests.patience import PATIENCE_S
from tests.server.wire import Client

ROOT = Path(__file__).parents[3]
ASKED = ChatRequest((Message("user", "Why?"),))


@contextmanager
def mended() -> Iterator[None]:
    """Trio with the cures; afterwards it is as it was before."""
    kept = trio.Nursery._child_finished, trio.Nursery._nested_child_finished
    mend_trio()
    try:
        yield
    finally:
        trio.Nursery._child_finished, trio.Nursery._nested_child_finished = kept  # type: ignore[method-assign]


class OddError(Exception):
    """An error that cannot be shown, as of an object that is half made."""

    def __repr__(self) -> NoReturn:
        raise AttributeError("it has no name yet")


async def fails(error: Exception) -> NoReturn:
    await trio.lowlevel.checkpoint()
    raise error


async def raised(depth: int, children: tuple[Exception, ...], body: Exception | None) -> None:
    """Raise these in the innermost of nested nurseries."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)
        if depth:
            nursery.start_soon(raised, depth - 1, children, body)
        else:
            for error in children:
                nursery.start_soon(fails, error)
            if body is not None:
                raise body


def deep(depth: int) -> Exception:
    """An error in so many groups; up to Python 3.12 it cannot be shown."""
    error: Exception = ValueError("the end")
    for _ in range(depth):
        error = ExceptionGroup("around it", [error])
    return error


async def opens() -> AsyncIterator[str]:
    """A generator with a nursery around its `yield`."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        yield "a"  # noqa: ASYNC101, ASYNC119 - the fault itself
        yield "b"  # noqa: ASYNC101, ASYNC119


async def breaks() -> None:
    async for _ in opens():
        break
    await trio.sleep(1)


@pytest.mark.parametrize("package", MENDED_AGAINST)
def test_the_cures_are_made_for_the_version_installed(package: str) -> None:
    """On failure: run these tests, read the package's changes, move the version."""
    assert version(package) == MENDED_AGAINST[package]
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = pyproject["project"]["optional-dependencies"]["server"]
    assert f"{package}>=0.35,<0.36" in asked, "a new release may change what is private"


ERRORS = st.sampled_from([OddError, ValueError, KeyError]).map(lambda kind: kind("x"))


@given(
    st.integers(0, 3),
    st.lists(ERRORS, max_size=3).map(tuple),
    st.none() | ERRORS,
    st.random_module(),
)
def test_what_leaves_a_nursery_is_what_its_tasks_raised(
    depth: int, children: tuple[Exception, ...], body: Exception | None, schedule: object
) -> None:
    """Whether or not it can be shown, and nothing else leaves it."""
    del schedule
    given_ = [*children, *([] if body is None else [body])]
    found: list[BaseException] = []

    async def main() -> None:
        try:
            await raised(depth, children, body)
        except BaseException as error:  # noqa: ASYNC103 - nobody cancels it
            found.extend(leaves(error))

    with mended():
        virtual(main)
    assert bool(found) == bool(given_)
    assert all(any(each is other for other in given_) for each in found)


@pytest.mark.parametrize("fault", ["raised, 0, (OddError(),), None", "breaks"])
def test_it_ends_the_whole_process_is_still_there(fault: str) -> None:
    program = f"from {__name__} import *; trio.run({fault})"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "\ntrio.TrioInternalError: " in ended.stderr


@step
async def odd(n: int) -> int:
    await raised(n, (OddError("x"),), None)
    return n


@step
async def deeper(n: int) -> int:
    await raised(0, (deep(n),), None)
    return n


@step
async def leaves_early(n: int) -> int:
    await breaks()
    return n


@asynccontextmanager
async def opened() -> AsyncIterator[int]:
    await breaks()
    yield 1


@step
async def keeps(n: int, *, context: Context = injected) -> int:
    return await context.kept(opened)


class Breaks(Model):
    """A model of a project, which leaves a nursery open."""

    capabilities = Capabilities()

    async def complete(self, request: ChatRequest) -> Completion:
        await breaks()
        return Completion((TextPart("a"),), Stopped(StopReason.END))

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        await breaks()
        async with ScriptedModel.saying("a").stream(request) as reply:
            yield reply


@step
async def asks(n: int, *, context: Context = injected) -> int:
    return len((await context.model("m").complete(ASKED)).text)


@step
async def hears(n: int, *, context: Context = injected) -> int:
    async with context.model("m").stream(ASKED) as reply:
        return len(await reply.receive())


@step
async def well(n: int) -> int:
    return n


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.parametrize("failing", [leaves_early, keeps, asks, hears])
def test_who_leaves_a_nursery_open_ends_nothing_beside_it(failing: object) -> None:
    """Also in a task of the engine: of a call that runs share, and of a kept object."""

    @pipeline
    def fine(n: int) -> int:
        return well(n)

    @pipeline
    def broken(n: int) -> int:
        return failing(n)  # type: ignore[operator, no-any-return]

    async def main() -> None:
        shared = CoalescedModel(Breaks(), name="m", rule=CoalesceRule())
        async with open_engine(World(models={"m": shared})) as engine:
            with pytest.raises(RuntimeError, match="stack corrupted"):
                await engine.start(broken, {"n": 1}).result()
            await trio.sleep(9)
            assert await engine.start(fine, {"n": 1}).result() == 1

    with mended():
        virtual(main)


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.parametrize(
    ("failing", "n"),
    [(odd, 0), (odd, 3), (deeper, 900), (leaves_early, 1)],
)
def test_such_a_step_fails_its_run_and_the_server_goes_on(failing: object, n: int) -> None:
    @pipeline
    def fine(n: int) -> int:
        return well(n)

    @pipeline
    def broken(n: int) -> int:
        return failing(n)  # type: ignore[operator, no-any-return]

    async def status(url: str, name: str) -> int:
        host, _, port = url.removeprefix("http://").rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            client = Client(stream)
            head = f"POST /v1/pipelines/{name}/runs HTTP/1.1\nContent-Type: application/json"
            await client.send(head, b'{"inputs": {"n": %d}}' % n)
            return (await client.reply()).status

    async def main() -> list[int]:
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                url = await nursery.start(partial(serve, {"fine": fine, "broken": broken}, port=0))
                found = [await status(url, name) for name in ("broken", "fine")]
                nursery.cancel_scope.cancel()
        return found

    with mended():
        assert trio.run(main) == [500, 200]
