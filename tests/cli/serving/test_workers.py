"""`orchestra serve` as processes: several of them, reloaded, killed and stopped."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from threading import Timer

import pytest

from orchestra.cli.serving.log import Log
from orchestra.cli.serving.workers import command
from orchestra.runs.archive import live_key
from tests.cli.conftest import Project, err_of, said
from tests.cli.serving.test_serve import get, listening
from tests.patience import PATIENCE_S, eventually

PID = """\
    from __future__ import annotations

    import os
    from collections.abc import AsyncIterator

    import trio

    from orchestra import Stream, pipeline, step

    VERSION = "one"


    @step
    async def speak(file: str) -> AsyncIterator[str]:
        yield f"{VERSION} {os.getpid()} "
        while file and not await trio.Path(file).exists():
            await trio.sleep(0.02)
        yield "done"


    @pipeline
    def who(file: str = "") -> Stream[str]:
        return speak(file)
"""

FINISHED = 'orchestra_run_duration_seconds_count{pipeline="who",status="finished"}'


@pytest.fixture
def who(project: Project) -> Project:
    project.write("pipelines/who.py", PID)
    project.write("orchestra.toml", '[state]\nurl = "sqlite:state.sqlite"\ntimeout_s = 10\n')
    return project


def asked(url: str) -> list[str]:
    """The version and the process that answer."""
    return str(get(f"{url}/v1/pipelines/who/runs")["result"]).split()[:2]


@contextmanager
def held(url: str, gate: Path) -> Iterator[tuple[int, str, HTTPResponse]]:
    """A stream that waits for a file: the process of its run, the run's id, and what comes."""
    request = urllib.request.Request(
        f"{url}/v1/pipelines/who/runs?file={gate}", headers={"Accept": "text/event-stream"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as events:
        seen = b""
        while b'"chunk":' not in seen:
            line = events.readline()
            assert line, f"it ended, having said {seen!r}"
            seen += line
        found = re.search(rb'"run_id":"(\w+)".*"chunk":"one (\d+) "', seen, re.DOTALL)
        assert found
        yield int(found[2]), found[1].decode(), events


def metric(url: str, name: str) -> float | None:
    """A sample of what all workers have counted together."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=PATIENCE_S) as response:
        told = re.search(rf"^{re.escape(name)} (.+)$", response.read().decode(), re.MULTILINE)
    return float(told[1]) if told else None


def counted(url: str, name: str, wanted: float) -> None:
    """Wait for a sample: who is asked knows of the others what they have written down by then."""
    eventually(name, lambda: metric(url, name), lambda seen: seen == wanted)


def recorded(project: Project, run_id: str) -> bool:
    """Whether it is written down for good that this run goes on."""
    file = project.folder / ".orchestra/state.sqlite"
    with closing(sqlite3.connect(file, timeout=PATIENCE_S)) as database:
        found = database.execute("SELECT 1 FROM entry WHERE key = ?", [live_key(run_id).encode()])
        return found.fetchone() is not None


def test_of_two_workers_one_is_killed_and_the_other_goes_on(who: Project) -> None:
    """The dead one is back, and its runs have failed; what both are asked for reaches both."""
    process = who.launch("serve", "--port", "0", "--workers", "2")
    url = listening(process)
    first, second = (int(said(process, "is ready").split()[-1]) for _ in range(2))
    workers = {first, second}
    gate = who.folder / "gate"
    with ExitStack() as streams:
        of: dict[int, tuple[str, HTTPResponse]] = {}
        held_by: Counter[int] = Counter()
        for _ in range(100):  # whoever is free accepts
            pid, run_id, stream = streams.enter_context(held(url, gate))
            of[pid] = run_id, stream
            held_by[pid] += 1
            if of.keys() == workers:
                break
        lost, events = of[first][0], of[second][1]
        eventually("the run is written down", lambda: recorded(who, lost))
        for _ in range(5):
            asked(url)
        counted(url, FINISHED, 5)
        counted(url, "orchestra_runs_running", held_by.total())  # as the first has written it down
        os.kill(first, signal.SIGKILL)
        said(process, "worker 1 ended with SIGKILL")
        since: list[str] = []
        assert int(said(process, "is ready", since).split()[-1]) not in workers
        with urllib.request.urlopen(f"{url}/v1/runs/{lost}/events", timeout=PATIENCE_S) as told:
            assert b"the process of this run has died" in told.read()
        assert metric(url, FINISHED) == 5, "what the dead had counted is not forgotten"
        counted(url, "orchestra_runs_lost_total", held_by[first])
        assert metric(url, 'orchestra_worker_ends_total{how="SIGKILL"}') == 1
        gate.touch()
        assert b"run.finished" in events.read()
    (who.folder / "pipelines/who.py").write_text("nonsense")
    process.send_signal(signal.SIGHUP)
    for _ in range(2):
        assert " worker " in said(process, "not reloaded", since)
    counted(url, "orchestra_reloads_refused_total", 2)
    assert "/docs" not in "".join(since), "what is served is told by the first, once"
    who.write("pipelines/who.py", PID.replace('"one"', '"two"'))
    process.send_signal(signal.SIGHUP)
    for _ in range(2):
        said(process, "reloaded; ")
    assert asked(url)[0] == "two"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


STUCK = """\
    import ctypes

    from orchestra import pipeline, step


    @step
    def keep_the_lock(n: int) -> int:
        return int(ctypes.PyDLL(None).pause())


    @pipeline
    def stuck(n: int) -> int:
        return keep_the_lock(n)
"""


def test_a_worker_that_is_stuck_is_replaced_and_the_log_says_where(who: Project) -> None:
    """Its client waited for ever. One that reloads is not stuck, however long an import takes."""
    who.write("pipelines/stuck.py", STUCK)
    file = who.folder / "orchestra.toml"
    file.write_text(file.read_text() + "[server]\nworker_timeout_s = 1\n")
    process = who.launch("serve", "--port", "0", "--workers", "2")
    url = listening(process)
    before = [int(said(process, "is ready").split()[-1]) for _ in range(2)]
    with pytest.raises((OSError, HTTPException)):
        get(f"{url}/v1/pipelines/stuck/runs?n=1")
    since: list[str] = []
    said(process, "ended with SIGABRT; the next begins in", since)
    assert int(said(process, "is ready", since).split()[-1]) not in before
    assert "is stuck and is killed: its event loop has stood still for 3" in "".join(since)
    told, _, stacks = "".join(since).partition("Fatal Python error: Aborted")
    assert "is stuck and is killed" in told
    assert re.search(r'pipelines/stuck.py", line \d+ in keep_the_lock', stacks)
    (who.folder / "pipelines/stuck.py").unlink()
    slow = PID.replace("\n    VERSION", "\n    __import__('time').sleep(4)\n    VERSION")
    who.write("pipelines/who.py", slow)
    process.send_signal(signal.SIGHUP)
    for _ in range(2):
        said(process, "reloaded; new requests", since)
    assert "".join(since).count("is stuck") == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


HUNG_UP = """\
    import os
    import signal
    from pathlib import Path

    from pipelines.who import pipeline, speak

    if not Path("hung-up").exists():
        Path("hung-up").touch()
        os.kill(os.getpid(), signal.SIGHUP)


    @pipeline
    def hung(file: str = "") -> Stream[str]:
        return speak(file)
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_is_to_load_anew_while_it_starts_does_so_when_it_has(
    who: Project, workers: str
) -> None:
    """It was killed, which a service manager takes for an orderly end."""
    who.write("pipelines/hung.py", HUNG_UP.replace("speak\n", "Stream, speak\n", 1))
    process = who.launch("serve", "--port", "0", "--workers", workers)
    url = listening(process)
    said(process, "reloaded; new requests")
    assert asked(url)[0] == "one"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


@contextmanager
def killed_late(processes: Sequence[int]) -> Iterator[None]:
    """Whoever waits in it for their ends does not wait for ever, and they are not there after it.

    Once it has ended nobody is killed: another process may have the number by then.
    """

    def kill_all() -> None:
        for each in processes:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)

    late = Timer(PATIENCE_S, kill_all)
    late.start()
    try:
        yield
    except BaseException:
        kill_all()
        raise
    finally:
        late.cancel()


def test_workers_whose_supervisor_was_killed_let_runs_end_and_stop(who: Project) -> None:
    """Nobody else would stop them, and another server could not have their port."""
    process = who.launch("serve", "--port", "0", "--workers", "2")
    url = listening(process)
    workers = [int(said(process, "is ready").split()[-1]) for _ in range(2)]
    with killed_late(workers):
        assert asked(url)[0] == "one"
        process.kill()
        for _ in range(2):
            said(process, "the supervisor has gone, and this worker stops")
        assert "Traceback" not in err_of(process).read().decode()  # until the last has ended


def test_a_pipeline_with_problems_is_told_once_and_nothing_is_served(who: Project) -> None:
    (who.folder / "pipelines/who.py").write_text("nonsense")
    code, out, err = who.finish("serve", "--port", "0", "--workers", "3")
    assert (code, out) == (1, "")
    assert err.count("pipelines/who.py cannot be imported: NameError") == 1


def test_workers_do_not_go_on_without_the_configuration_that_they_had(who: Project) -> None:
    """Neither those that load anew, nor one that takes the place of another."""
    file = who.folder / "orchestra.toml"
    file.write_text(file.read_text() + '[server]\nkeys = "required"\n')
    process = who.launch("serve", "--port", "0", "--workers", "2")
    url = listening(process)
    first, _ = (int(said(process, "is ready").split()[-1]) for _ in range(2))
    file.unlink()
    process.send_signal(signal.SIGHUP)
    for _ in range(2):
        assert "not reloaded" in said(process, "reloaded")
    os.kill(first, signal.SIGKILL)
    said(process, "worker 1 ended with SIGKILL")
    said(process, "orchestra.toml: there is no such file")
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        asked(url)
    refused.value.close()
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE_S)


def test_an_edit_is_served_while_one_develops(who: Project) -> None:
    process = who.launch("serve", "--port", "0", "--reload")
    url = listening(process)
    assert asked(url)[0] == "one"
    (who.folder / "pipelines/who.py").write_text("nonsense")
    assert "what was served before stays" in said(process, "not reloaded")
    assert asked(url)[0] == "one"
    who.write("pipelines/who.py", PID.replace('"one"', '"two"'))
    said(process, "reloaded; ")
    assert asked(url)[0] == "two"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


NOTES = """\
    from orchestra import pipeline
    from orchestra.steps import embed, retrieve
    from orchestra.values import Passage


    @pipeline
    def notes(question: str) -> list[Passage]:
        return retrieve(embed(question), store="notes", top=1)
"""


def test_a_store_that_is_made_while_one_develops_is_found(who: Project) -> None:
    process = who.launch("serve", "--port", "0", "--reload")
    url = listening(process)
    who.write("pipelines/notes.py", NOTES)
    said(process, "not reloaded")
    who.write("notes/a.md", "A note.")
    assert who.finish("ingest", "notes", "--store", "notes")[0] == 0
    said(process, "reloaded; ")
    assert asked(url)[0] == "one"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


def test_a_worker_is_started_with_what_was_said() -> None:
    said = {"drain_s": 3.5, "debug": True}
    log = Log("json", "warning")
    words = command(["pipelines.a:b"], "0.0.0.0", said, Path("data"), None, log=log, reload=False)
    assert words[3:] == [
        *("serve", "pipelines.a:b", "--host", "0.0.0.0"),
        *("--drain-s", "3.5", "--debug", "--data", "data"),
        *("--log-format", "json", "--log-level", "warning", "--as-worker"),
    ]
