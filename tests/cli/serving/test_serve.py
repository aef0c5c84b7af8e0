"""`orchestra serve`, and the demo that asks it."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orchestra.cli.demo import lines
from orchestra.cli.failures import FAILED, MISUSED
from orchestra.cli.serving.serve import DESCRIPTORS
from tests.cli.conftest import ROOT, Project, err_of, out_of
from tests.patience import PATIENCE_S, eventually, line_with
from tests.ports import reserved_port

LISTENING = re.compile(r"orchestra is listening on (http://127\.0\.0\.1:\d+)\n")


def listening(process: subprocess.Popen[bytes]) -> str:
    """The address of a server, once it is there."""
    try:
        found = LISTENING.fullmatch(line_with(out_of(process), ""))
    except AssertionError as error:
        process.kill()
        error.add_note(err_of(process).read().decode())
        raise
    assert found
    return found[1]


def get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
        return dict(json.load(response))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_pipelines_are_served_until_a_signal(say: Project, number: int) -> None:
    process = say.launch("serve", "--port", "0")
    url = listening(process)
    served = get(f"{url}/v1/pipelines")["pipelines"]
    assert [each["name"] for each in served] == ["say", "count"]
    assert get(f"{url}/v1/pipelines/say/runs?text=hi&times=2")["result"] == "HI HI "
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, b"")
    assert f"  say: {url}/v1/pipelines/say/runs\n" in err.decode()
    assert b"Traceback" not in err


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_may_open_as_many_files_as_it_is_allowed_to(say: Project, workers: int) -> None:
    """A shell allows 1,024 at first; a thousand clients with a call each need more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        process = say.launch("serve", "--port", "0", "--workers", str(workers))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    listening(process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for each in children or [str(process.pid)]:
        assert resource.prlimit(int(each), resource.RLIMIT_NOFILE)[0] == min(hard, DESCRIPTORS)


def served_with_imports_told(say: Project) -> tuple[subprocess.Popen[bytes], str, Path]:
    """A server's process and URL, and the file with its standard error, where its imports are."""
    told = say.folder / "imported.txt"  # a pipe that nobody reads has room for hardly more
    with told.open("wb") as file:
        env = {"PYTHONPROFILEIMPORTTIME": "1"}
        process = say.launch("serve", "--port", "0", env=env, stderr=file.fileno())
    found = LISTENING.fullmatch(line_with(out_of(process), ""))
    assert found
    return process, found[1], told


LATER = {
    "httpx", "orchestra.access.keyring", "orchestra.compiler.picture",
    "orchestra.config.deployment.own_classes", "orchestra.graph.refusals.refusal",
    "orchestra.providers.remote", "orchestra.providers.wordllama", "orchestra.stores.postgres",
    "orchestra.stores.sqlite", "orchestra.stores.state.settings", "orchestra.stores.state.sqlite",
    "sqlite3", "sysconfig",
}  # fmt: skip
"""What a server without keys, models and a state on disk has no use for at its start."""
if sys.version_info >= (3, 14):
    LATER.remove("sysconfig")  # ctypes, which Trio needs, imports it there


def test_a_start_imports_nothing_that_it_does_not_use(say: Project) -> None:
    """A module costs half a millisecond or more, and a start is waited for."""
    process, url, told = served_with_imports_told(say)
    get(f"{url}/v1/pipelines/say/runs?text=hi&times=2")
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE_S)
    names = [line.rpartition("|")[2].strip() for line in told.read_text().splitlines()]
    imported = set(names[names.index("site") :])  # before it, what measures coverage
    assert "orchestra.engine.engine" in imported
    assert imported & LATER == set()


def test_what_a_failing_run_needs_is_imported_before_there_are_no_descriptors_left(
    say: Project,
) -> None:
    """Else the request gets a 500 instead of its problem, since no module can be read."""
    say.write("orchestra.toml", '[models.m]\nprovider = "ollama"\nmodel = "llama3"\n')
    _, url, told = served_with_imports_told(say)
    before = len(told.read_text())
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(f"{url}/v1/pipelines/say/runs?text=boom")
    with caught.value as answer:
        assert answer.code == 500
    assert "orchestra." not in "".join(re.findall("import time:.*", told.read_text()[before:]))


def test_the_built_in_embedder_is_loaded_before_the_first_run_that_needs_it(say: Project) -> None:
    """Otherwise all runs would wait for its 0.2 s; also where a reload brings it."""
    process, _, told = served_with_imports_told(say)
    assert "tokenizers" not in told.read_text()
    say.write(
        "pipelines/sorted.py",
        """
        from orchestra import pipeline
        from orchestra.steps import classify
        from orchestra.values import Label


        @pipeline
        def kind(text: str) -> Label:
            return classify(text, labels=("praise", "complaint"))
        """,
    )
    process.send_signal(signal.SIGHUP)
    eventually("the reload", lambda: "; new requests use the new version" in told.read_text())
    assert "tokenizers" in told.read_text()
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE_S)


def test_of_a_pipeline_that_takes_a_whole_request_its_model_is_told(say: Project) -> None:
    """It has no route of its own, since JSON has no form for what it takes."""
    say.write(
        "pipelines/talk.py",
        """
        from orchestra import pipeline, step
        from orchestra.values import ChatRequest, Message


        @step
        def last(messages: list[Message]) -> str:
            return messages[-1].text


        @step
        def spoken(request: ChatRequest) -> str:
            return request.messages[-1].text


        @pipeline
        def chat(request: ChatRequest) -> str:
            return spoken(request)


        @pipeline
        def talk(messages: list[Message]) -> str:
            return last(messages)
        """,
    )
    process = say.launch("serve", "--port", "0")
    url = listening(process)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=PATIENCE_S)[1].decode()
    assert f"  say: {url}/v1/pipelines/say/runs\n" in told
    assert f"  talk: {url}/v1/pipelines/talk/runs\n" in told
    assert f"  chat: model 'chat' of {url}/v1/chat/completions\n" in told


def test_a_configuration_alone_serves_its_models(project: Project) -> None:
    """As a gateway, for those who have no pipelines yet."""
    project.write("orchestra.toml", "[models.quotes]\nprovider = 'extractive'\n")
    assert project.orchestra("check") == (0, "no pipelines, no problems\n", "")
    process = project.launch("serve", "--port", "0")
    listed = get(f"{listening(process)}/v1/models")["data"]
    assert "quotes" in [each["id"] for each in listed]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert b"no pipelines: models only" in err


def test_a_server_that_lets_nobody_in_says_so_and_how_to_make_a_key(say: Project) -> None:
    say.write("orchestra.toml", '[server]\nkeys = "required"\n')
    """In the very folder that it looks into; the one of its configuration is the usual one."""
    hint = "a key is required, and there is none yet: (orchestra keys create .*)\n"
    for told in (True, False):
        process = say.launch("serve", "--port", "0", "--data", "a folder")
        listening(process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
        found = re.search(hint, err.decode())
        assert (found is not None) == told
        if found is not None:
            _, *command = shlex.split(found[1])
            assert say.orchestra(*command)[0] == 0


@pytest.mark.parametrize("wanted", [True, False])
def test_a_start_says_why_there_are_no_metrics(say: Project, wanted: bool) -> None:
    """To whoever has not said that there are to be none."""
    say.write("without/sitecustomize.py", "import sys; sys.modules['prometheus_client'] = None")
    say.write("orchestra.toml", f"[server]\nmetrics = {str(wanted).lower()}\n")
    ways = {"PYTHONPATH": f"{say.folder / 'without'}:{ROOT}"}
    process = say.launch("serve", "--port", "0", env=ways)
    listening(process)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=PATIENCE_S)[1].decode()
    missed = (
        "  /metrics needs prometheus-client, which is not installed: pip install 'orchestra[metr"
    )
    assert (missed in told) == wanted


def test_what_is_named_is_what_is_served(say: Project) -> None:
    process = say.launch("serve", "pipelines.say:count", "--port", "0")
    served = get(f"{listening(process)}/v1/pipelines")["pipelines"]
    assert [each["name"] for each in served] == ["count"]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("early", [True, False])
def test_a_server_whose_log_nobody_reads_any_more_goes_on_and_ends_in_order(
    say: Project, workers: str, *, early: bool
) -> None:
    """Also where its readers are gone before it says that it listens."""
    ours, its = os.pipe()
    with reserved_port() as port:
        words = ("serve", "--port", str(port), "--workers", workers)
        process = say.launch(*words, stdout=its, stderr=its)
        os.close(its)
        with open(ours, "rb", buffering=0) as log:  # noqa: PTH123 - it is a pipe
            if not early:
                line_with(log, "is listening")
        url = f"http://127.0.0.1:{port}/v1/pipelines/say/runs?text=hi"

        def answer() -> object:
            with suppress(urllib.error.URLError):
                return get(url)["result"]
            return None

        assert eventually("an answer", answer) == "HI "
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_manager_is_told_that_it_is_ready_and_that_it_stops(
    say: Project, workers: str
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")
        manager.settimeout(PATIENCE_S)
        address = manager.getsockname().decode().replace("\0", "@")
        words = ("serve", "--port", "0", "--workers", workers)
        process = say.launch(*words, env={"NOTIFY_SOCKET": address})
        assert manager.recv(100) == b"READY=1"
        listening(process)
        process.send_signal(signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"
        assert process.wait(PATIENCE_S) == 0
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)


@pytest.mark.parametrize(
    ("workers", "state"), [("1", "own.sqlite"), ("2", "own.sqlite"), ("2", ""), ("1", "")]
)
def test_the_start_says_where_the_state_is_that_processes_share(
    say: Project, workers: str, state: str
) -> None:
    """Also of a single process: others, on this host or another, may share its state."""
    if state:
        say.write("orchestra.toml", f'[state]\nurl = "sqlite:{state}"\n')
    process = say.launch("serve", "--port", "0", "--workers", workers)
    listening(process)
    process.send_signal(signal.SIGTERM)
    log = err_of(process).read().decode()
    shared = "limits, budgets, cache and runs are shared in "
    assert (shared in log) is (workers == "2" or state != "")
    if shared in log:
        assert log.partition(shared)[2].split()[0].endswith(state or "state.sqlite")


def test_an_address_that_is_taken_is_one_block(say: Project) -> None:
    port = listening(say.launch("serve", "--port", "0")).rpartition(":")[2]
    code, out, err = say.finish("serve", "--port", port)
    assert (code, out) == (FAILED, "")
    assert err.startswith("error: cannot listen on host '127.0.0.1'")
    assert "Traceback" not in err


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("wrong", ["configuration", "pipeline"])
def test_a_start_that_fails_says_why_in_json_where_the_log_is_json(
    say: Project, wrong: str, workers: str
) -> None:
    """A program that reads the log finds nothing else in it, such as the text of an error."""
    if wrong == "configuration":
        say.write("orchestra.toml", "[routes.chat]\nmodels = []\n")
    else:
        say.write("pipelines/wrong.py", "import nothing_of_this_name\n")
    code, out, err = say.finish(
        *("serve", "--port", "0", "--workers", workers, "--log-format", "json")
    )
    assert (code, out) == (FAILED, "")
    entries = [json.loads(line) for line in err.splitlines()]
    errors = [each["message"] for each in entries if each["level"] == "ERROR"]
    named = "routes.chat.models" if wrong == "configuration" else "nothing_of_this_name"
    assert any(named in each for each in errors)


@pytest.mark.parametrize("workers", ["0", "257", "1000000"])
def test_a_number_of_workers_that_no_machine_has_is_refused(workers: str, say: Project) -> None:
    code, out, err = say.orchestra("serve", "--port", "0", "--workers", workers)
    assert (code, out) == (MISUSED, "")
    assert "--workers" in err
    assert ("<= 256" in err) == (workers != "0")


def test_two_of_one_name_are_refused(say: Project) -> None:
    shutil.copy(say.folder / "pipelines/say.py", say.folder / "pipelines/too.py")
    code, _, err = say.orchestra("serve", "--port", "0")
    assert code == MISUSED
    assert "two pipelines are named 'say', at pipelines/say.py:" in err


def test_one_pipeline_named_twice_is_one(say: Project) -> None:
    process = say.launch("serve", "pipelines.say", "pipelines.say:say", "--port", "0")
    assert len(get(f"{listening(process)}/v1/pipelines")["pipelines"]) == 2


def test_a_pipeline_with_problems_is_not_served(say: Project) -> None:
    say.write(
        "pipelines/bad.py",
        """\
        from orchestra import pipeline, step

        @step
        def f(x: int) -> int:
            return x

        @pipeline
        def bad(x: int, y: int) -> int:
            return f(x)
        """,
    )
    code, out, err = say.finish("serve", "--port", "0")
    assert (code, out) == (FAILED, "")
    assert "[unused-input]" in err
    assert "Traceback" not in err


@pytest.fixture
def checkout(project: Project) -> Project:
    """A project with this one's example, and something to read."""
    shutil.copytree(ROOT / "pipelines", project.folder / "pipelines")
    project.write(
        "docs/leaving.md",
        "# Leaving\n\nWhen the client leaves, its run is cancelled within milliseconds.\n\n"
        "# Staying\n\nA slow client slows the provider that it listens to.\n",
    )
    return project


def test_the_demo_asks_over_http_and_shows_what_comes(checkout: Project) -> None:
    code, out, err = checkout.finish("demo", "What happens when the client leaves?")
    assert code == 0, err
    told = out.split("\n")
    assert told[0].startswith("ingest  docs/: 1 added; ")
    assert told[1].startswith("serve   http://127.0.0.1:")
    events = [line.split()[2] for line in told[3 : told.index("")]]
    assert events[0] == "run.started"
    assert "delta" in events
    assert events[-1] == "run.finished"
    answer = "\n".join(told[told.index("") :])
    assert "its run is cancelled within milliseconds. [1]" in answer
    assert "[1] docs/leaving.md — Leaving" in answer
    assert "The built-in model is extractive" in answer
    assert "--config orchestra.toml" in answer
    assert not (checkout.folder / ".orchestra").exists()


def test_the_demo_answers_from_another_folder(checkout: Project) -> None:
    checkout.write("notes/bees.md", "# Bees\n\nBees make honey from the nectar of flowers.\n")
    code, out, _ = checkout.finish("demo", "What do bees make?", "--docs", "notes")
    assert code == 0
    assert "notes/bees.md — Bees" in out


def test_the_demo_says_where_it_can_be_run(project: Project) -> None:
    code, out, err = project.orchestra("demo")
    assert (code, out) == (MISUSED, "")
    assert err.startswith("error: there is no 'docs' in ")
    assert "checkout" in err


def test_a_demo_that_fails_says_why(checkout: Project) -> None:
    """Also over HTTP the step's own error is told, on this machine."""
    checkout.write(
        "pipelines/answer.py",
        """\
        from orchestra import pipeline, step

        @step
        async def fail(question: str) -> str:
            raise ValueError(f"no answer to {question}")

        @pipeline
        def answer(question: str) -> str:
            return fail(question)
        """,
    )
    code, out, err = checkout.finish("demo", "why?")
    assert code == FAILED
    assert "step.failed    fail  ValueError  no answer to why?" in out
    assert err.endswith("error: the run did not finish: no answer to why?\n")


def event(kind: str, **fields: object) -> dict[str, object]:
    return {"type": kind, "seq": 1, "at_s": 0.0015, **fields}


def test_events_are_short_lines() -> None:
    batch = [
        event("run.started", run_id="id", pipeline="p"),
        event("delta", chunk="a\n"),
        event("delta", chunk="b" * 100),
        event("step.finished", step="s", duration_s=0.002, chunks=3, first_chunk_s=0.1, usage=None),
        event("step.failed", step="s", error="E", message="\x1b[0m", where="x:1"),
    ]
    assert lines(batch) == [
        ("       1.5 ms  run.started    p", "dim"),
        ("       1.5 ms  delta          'a\\n" + "b" * 57 + "…'", "green"),
        ("       1.5 ms  step.finished  s  2.0 ms  3 chunks", "dim"),
        ("       1.5 ms  step.failed    s  E  \N{REPLACEMENT CHARACTER}[0m", "red"),
    ]
