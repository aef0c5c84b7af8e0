"""The entry point: help, wrong commands, and streams that are closed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from orchestra.cli import app
from orchestra.cli.failures import FAILED, INTERRUPTED, MISUSED
from tests.cli.conftest import ROOT, Project, out_of
from tests.patience import PATIENCE_S

COMMANDS = (
    "run",
    "serve",
    "check",
    "draw",
    "ingest",
    "models",
    "stores",
    "keys",
    "budgets",
    "demo",
)


@pytest.mark.parametrize("words", [["--help"], []])
def test_help_tells_every_command(project: Project, words: list[str]) -> None:
    code, out, err = project.orchestra(*words)
    assert (code, err) == (0, "")
    assert all(f"│ {command} " in out for command in COMMANDS)
    assert "--traceback" in out


@pytest.mark.parametrize("columns", ["0", ""])
def test_a_terminal_that_does_not_know_its_width_gets_help(
    project: Project, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, out, err = project.orchestra("--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: orchestra COMMAND")


@pytest.mark.parametrize("words", [["--help"], ["keys", "--help"], ["keys", "create"], ["budgets"]])
def test_a_list_of_commands_says_of_each_what_it_does(project: Project, words: list[str]) -> None:
    _, out, err = project.orchestra(*words, "--help")
    assert err == ""
    listed = re.findall(r"│ ([a-z]+)  +(.*?) *│", out)
    assert all(said for _, said in listed), out


@pytest.mark.parametrize(
    ("function", "told"), [*app.COMMANDS.items(), *app.KEYS.items(), *app.BUDGETS.items()]
)
def test_what_a_list_says_of_a_command_is_the_first_line_of_its_help(
    function: str, told: tuple[str, str]
) -> None:
    module, _, name = function.partition(":")
    found = getattr(import_module(f"orchestra.cli.{module}"), name)
    assert found.__doc__.splitlines()[0] == told[1]


def test_the_help_of_a_command_is_more_than_its_first_line(project: Project) -> None:
    _, out, _ = project.orchestra("serve", "--help")
    assert "SIGHUP reloads pipelines and configuration" in " ".join(out.split())
    _, out, _ = project.orchestra("keys", "rotate", "--help")
    assert "--grace" in out


def test_the_demo_says_that_it_looks_for_no_configuration(project: Project) -> None:
    """Other commands do, and share the text of their option."""
    _, out, _ = project.orchestra("demo", "--help")
    told = " ".join(out.replace("│", "").split())
    assert "--config PATH The configuration; by default none, so that built-in models" in told


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_how_it_is_called(project: Project, command: str) -> None:
    code, out, err = project.orchestra(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: orchestra {command} ")
    assert "[default: False]" not in out


def test_the_version_is_told(project: Project) -> None:
    code, out, _ = project.orchestra("--version")
    assert code == 0
    assert out[0].isdigit()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["rnu"], 'Unknown command "rnu". Did you mean "run"?'),
        (["serve", "--prot", "1"], "Unknown option: --prot. Did you mean --port?"),
        (["serve", "--port", "x"], "--port"),
        (["serve", "--port", "65536"], "--port"),
        (["serve", "--host", "unix:/run/o.sock"], "'unix:/run/o.sock' is not a host; write an"),
        (["serve", "--host", "[::1]"], "without brackets, such as 127.0.0.1, ::1 or 0.0.0.0"),
        (["serve", "--host", ""], "'' is not a host"),
        (["serve", "--drain-s", "0"], "--drain-s"),
        (["draw", "x", "--format", "svg"], "--format"),
        (["run"], "TARGET requires an argument.\n  usage: orchestra run MODULE[:PIPELINE] "),
        (["ingest", "docs"], "--store requires an argument.\n  usage: orchestra ingest FOLDER "),
        (["keys", "revoke"], "ID requires an argument.\n  usage: orchestra keys revoke ID "),
        (["keys", "list", "x"], "'x' is not expected\n  usage: orchestra keys list [OPTIONS]\n"),
        (
            ["models", "pong"],
            "'pong' is not expected; did you mean 'ping'?\n  usage: orchestra models ",
        ),
        (["models", "x"], "'x' is not expected\n  usage: orchestra models [ping [NAME ...]] "),
        (
            ["keys", "create", "--user", "u", "--pipelines", "ask", "shout", "tell"],
            "'shout tell' is not expected; write names with commas between: --pipelines "
            "ask,shout,tell\n"
            "  usage: orchestra keys create ",
        ),
        (["keys", "create", "--user", "a", "b"], "'b' is not expected\n  usage: "),
        (["serve", "--worker", "2"], "Unknown option: --worker. Did you mean --workers?"),
        (["check"], "answer.py`\n"),
        (["serve"], "answer.py`, or write an orchestra.toml: a server may have models only\n"),
        (["models", "ping", "--at-once", "0"], "--at-once"),
    ],
)
def test_a_wrong_command_is_one_block(project: Project, words: list[str], complaint: str) -> None:
    code, out, err = project.orchestra(*words)
    assert (code, out) == (MISUSED, "")
    assert err.startswith("error: ")
    assert complaint in err


def test_a_traceback_is_shown_where_it_is_asked_for(project: Project) -> None:
    project.write("bad.py", "1 / 0\n")
    code, _, err = project.orchestra("draw", "bad")
    assert code == FAILED
    assert "Traceback" not in err
    code, _, err = project.orchestra("draw", "--traceback", "bad")
    assert code == FAILED
    assert err.startswith("Traceback")
    assert err.endswith(
        "error: bad cannot be imported: ZeroDivisionError: division by zero\n"
        "  at bad.py:1    1 / 0\n"
    )


def test_a_fault_of_our_own_is_one_block_too(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_app", lambda _: None)
    code, _, err = project.orchestra("--traceback")
    assert code == FAILED
    assert "Traceback" in err
    code, _, err = project.orchestra()
    assert err == (
        "error: TypeError: 'NoneType' object is not callable\n  --traceback shows where\n"
    )


def test_ctrl_c_needs_no_words(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "_call", interrupted)
    assert project.orchestra("check") == (INTERRUPTED, "", "")


def test_a_module_is_a_command_too(project: Project) -> None:
    code, out, err = project.finish("--version")
    assert (code, err) == (0, "")
    assert out


def test_output_that_nobody_reads_is_no_error(say: Project) -> None:
    """`orchestra draw ... | true`."""
    process = say.launch("draw", "pipelines.say:say")
    out_of(process).close()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stay_closed(say: Project, closed: str) -> None:
    """What is meant for standard output must not end in the next file that is opened."""
    done = subprocess.run(
        [
            "sh",
            "-c",
            f'exec "$0" -m orchestra run pipelines.say:say --text hi {closed}',
            sys.executable,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words",
    [
        *(["check"], ["run", "pipelines.say:say", "--text", "a"]),
        *([], ["--help"], ["run", "--help"], ["keys"], ["--version"]),
    ],
)
def test_a_full_disk_is_told(say: Project, words: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        process = say.launch(*words, stdout=full, env={"PYTHONUNBUFFERED": unbuffered})
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == FAILED
    assert err.endswith(b"[Errno 28] No space left on device: 'standard output'\n")
    assert b"Traceback" not in err


def test_the_exit_code_is_that_of_the_command_also_where_no_error_can_be_told(say: Project) -> None:
    """A disk that is full of logs: the script that calls it looks at the code."""
    with Path("/dev/full").open("wb") as full:
        process = say.launch("check", "nowhere", stderr=full.fileno())
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == FAILED
    with Path("/dev/full").open("wb") as full:
        process = say.launch("run", "nowhere", stderr=full.fileno())
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == MISUSED


def test_what_was_closed_is_put_in_place_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = sys.stdin
    monkeypatch.setattr(sys, "stdout", None)
    app._open_closed()
    opened = sys.stdout
    assert opened.name == os.devnull
    assert opened.write("into nothing")
    opened.close()
    assert sys.stdin is stdin
