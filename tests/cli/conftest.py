"""A user's project in a temporary folder, and the command line in it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from types import MappingProxyType
from typing import IO

import pytest

from orchestra.cli.app import main
from tests.config.variables import configuring
from tests.patience import PATIENCE_S, line_with

ROOT = Path(__file__).parents[2]
CONFIGURING = configuring()


class Project:
    """A working directory, and commands that are run in it."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture
        self._processes: list[subprocess.Popen[bytes]] = []

    def write(self, path: str, text: str) -> Path:
        """A file of the project."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), "utf-8")
        return file

    def orchestra(self, *words: str) -> tuple[int, str, str]:
        """Run a command in this process: its exit code, output and errors."""
        self._capture.readouterr()
        code = main(words)
        out, err = self._capture.readouterr()
        return code, out, err

    def launch(
        self,
        *words: str,
        env: Mapping[str, str] = MappingProxyType({}),
        stdout: IO[bytes] | int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        """Start a command in a process of its own; killed with the test."""
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestra", *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "", **env},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            bufsize=0,
        )
        self._processes.append(process)
        return process

    def finish(self, *words: str) -> tuple[int, str, str]:
        """Run a command in a process of its own: its exit code, output and errors."""
        process = self.launch(*words)
        out, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out.decode(), err.decode()

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Project]:
    """An empty project as the working directory; its imports are removed afterwards."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in CONFIGURING & os.environ.keys():  # whoever runs the tests may have keys
        monkeypatch.delenv(name)
    before = dict(sys.modules)
    elsewhere = [name for name in before if name.split(".")[0] == "pipelines"]
    for name in elsewhere:  # those of the checkout
        del sys.modules[name]
    made = Project(folder, capfd)
    yield made
    made.close()
    for name in [*sys.modules]:
        module = sys.modules[name]
        places = [str(getattr(module, "__file__", "")), *getattr(module, "__path__", ())]
        ours = any(place.startswith(str(tmp_path)) for place in places)
        if name.split(".")[0] == "pipelines" or ours:
            del sys.modules[name]
    sys.modules.update({name: before[name] for name in elsewhere})


SAY = """\
    from __future__ import annotations

    from collections.abc import AsyncIterator

    from orchestra import Stream, each, pipeline, step


    @step
    async def upper(text: str) -> str:
        if text == "boom":
            raise ValueError("no booms here")
        return text.upper()


    @step
    async def words(text: str, *, times: int) -> AsyncIterator[str]:
        for _ in range(times):
            for word in text.split():
                yield word + " "


    @pipeline
    def say(text: str, times: int = 1) -> Stream[str]:
        \"\"\"Say it loudly.\"\"\"
        return words(upper(text), times=times)


    @step
    def length(text: str) -> dict[str, int]:
        return {text: len(text)}


    @pipeline
    def count(texts: list[str]) -> list[dict[str, int]]:
        return each(texts, length, at_once=2)
"""


@pytest.fixture
def say(project: Project) -> Project:
    """A project with the pipelines `say` and `count` in pipelines/say.py."""
    project.write("pipelines/say.py", SAY)
    return project


def out_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    """The standard output of a process, which must be a pipe."""
    assert process.stdout is not None
    return process.stdout


def err_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    """The standard error of a process, which must be a pipe."""
    assert process.stderr is not None
    return process.stderr


def read_terminal(descriptor: int) -> str:
    """All that is shown on a terminal, until the other side hangs up."""
    shown = b""
    while True:
        try:
            shown += os.read(descriptor, 4096)
        except OSError:  # Linux's way to report it
            break
    os.close(descriptor)
    return shown.decode().replace("\r\n", "\n")


def said(process: subprocess.Popen[bytes], wanted: str, passed_by: list[str] | None = None) -> str:
    """The next line of a process's log that contains `wanted`: see `line_with`."""
    return line_with(err_of(process), wanted, passed_by)


@pytest.fixture
def wait_for() -> Callable[[subprocess.Popen[bytes], bytes], bytes]:
    """Read a process's output until it holds the bytes."""

    def wait(process: subprocess.Popen[bytes], wanted: bytes) -> bytes:
        said = b""
        while wanted not in said:
            ready, _, _ = select.select([out_of(process)], [], [], PATIENCE_S)
            assert ready, f"{wanted!r} was not said within {PATIENCE_S:g} s; it said {said!r}"
            more = os.read(out_of(process).fileno(), 4096)
            assert more, f"the process ended, having said {said!r}"
            said += more
        return said

    return wait


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Restore the handlers of signals: a stopped command lets the next signal kill the process."""
    kept = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)
