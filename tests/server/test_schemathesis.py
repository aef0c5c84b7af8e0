"""schemathesis asks a server for all that its document tells, and for what it does not allow.

No answer is a 5xx; none has a status, a content type or a form that the document does not tell; and
nothing is answered without a key that needs one.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from orchestra.access.keyring import Keyring
from orchestra.access.wanted import NewKey
from orchestra.documents import Document
from orchestra.engine.engine import open_engine
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.steps import step
from orchestra.observe.counting import Counting
from orchestra.observe.metrics import Metrics
from orchestra.protocols import Stream
from orchestra.server.app import create_app
from orchestra.server.connections.listen import HttpServer
from orchestra.server.connections.sockets import bind
from orchestra.server.front.layers import Admission
from orchestra.server.settings import Settings
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.world import ScriptedModel, World
from tests.patience import PATIENCE_S
from tests.servers.processes import PROGRAMS

PROGRAM = PROGRAMS / "schemathesis"
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "ignored_auth", "unsupported_method"),
)
"""Not whether it accepts what fits a schema, since a name may be unknown, nor whether it refuses all
else: a query and a form are text, where `0` is a boolean too."""
TRIES = 6


class Tone(Enum):
    DRY = "dry"
    KIND = "kind"


@attrs.frozen
class Section:
    """A part of something."""

    title: str
    inside: list[Section] = attrs.field(factory=list)


@step
def told(
    sections: list[Section],
    tone: Tone,
    file: Document | None,
    top: int,
    weights: dict[str, float] | None,
) -> list[str]:
    return [section.title for section in sections[:top]]


@pipeline
def rich(
    sections: list[Section],
    tone: Tone = Tone.DRY,
    file: Document | None = None,
    top: int = 3,
    weights: dict[str, float] | None = None,
) -> list[str]:
    """Every kind of input that there is."""
    return told(sections, tone, file, top, weights)


@step
async def said(question: str, flags: list[bool]) -> AsyncIterator[str]:
    for flag in flags:
        yield question if flag else ""


@pipeline
def plain(question: str, flags: list[bool] = [True]) -> Stream[str]:  # noqa: B006 - a default is told
    """What a query can say."""
    return said(question, flags)


PIPELINES: dict[str, Pipeline[..., Any]] = {"rich": rich, "plain": plain}


async def asked_of_everything(folder: Path) -> subprocess.CompletedProcess[bytes]:
    """What it says of a server of ours, which ends with it."""
    ring = Keyring(MemoryState())
    wanted = NewKey(organisation="acme", pipelines=("*",), models=("*",), metrics=True)
    made = await ring.create(wanted)
    own = Settings(body_timeout_s=2)
    world = World(models={"m": ScriptedModel.saying("yes")})
    async with open_engine(world) as engine, trio.open_nursery() as nursery:
        counting = Counting(Metrics({}))
        app = create_app(engine, PIPELINES, own, Admission(keyring=ring), counting=counting)
        listener = bind("127.0.0.1", 0, own)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/openapi.json"
        nursery.start_soon(HttpServer(app, own).serve, listener)
        command = [str(PROGRAM), "run", url, "--no-color", "--generation-deterministic"]
        command += ["-H", f"Authorization: Bearer {made.text}", "--phases", "coverage,fuzzing"]
        command += ["--workers", "1", "--checks", ",".join(CHECKS), "--max-examples", str(TRIES)]
        # A server that hangs is told by the first request that it does not answer: no limit for all
        # of them, which a busy machine would reach.
        command += ["--request-timeout", f"{PATIENCE_S:g}", "--max-failures", "1"]
        run = partial(trio.run_process, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
        done = await run(command, cwd=folder)
        nursery.cancel_scope.cancel()
    return done


def test_whatever_is_asked_is_answered_as_documented_and_never_with_a_fault_of_ours(
    tmp_path: Path,
) -> None:
    if not PROGRAM.exists():
        pytest.skip(f"{PROGRAM} is not there; `nox -s servers` installs it")
    done = trio.run(asked_of_everything, tmp_path)
    said = done.stdout.decode()
    assert done.returncode == 0, said
    tested = re.search(r"Tested: (\d+)", said)
    assert tested is not None, said
    assert int(tested[1]) > 8, said
