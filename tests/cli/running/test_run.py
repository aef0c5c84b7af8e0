"""`orchestra run`: what it writes, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable

import pytest

from orchestra.cli.failures import FAILED, INTERRUPTED, MISUSED, PIPE_CLOSED, TERMINATED
from tests.cli.conftest import Project, err_of, out_of, read_terminal
from tests.patience import PATIENCE_S

WaitFor = Callable[[subprocess.Popen[bytes], bytes], bytes]

ENDLESS = """\
    import threading
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trio

    from orchestra import Stream, pipeline, step


    @step
    async def speak(first: str, gate: str) -> AsyncIterator[str]:
        try:
            yield first
            if gate:
                yield await trio.to_thread.run_sync(Path(gate).read_text)
            else:
                await trio.sleep_forever()
        finally:
            Path("stopped").touch()


    @pipeline
    def endless(first: str = "on and on ", gate: str = "") -> Stream[str]:
        return speak(first, gate)


    @step(thread=True)
    def sulk() -> str:
        print("sulking", flush=True)
        threading.Event().wait()
        return "never"


    @pipeline
    def stubborn() -> str:
        return sulk()
"""


@pytest.fixture
def endless(project: Project) -> Project:
    """A project with pipelines that go on until they are stopped."""
    project.write("p.py", ENDLESS)
    return project


def test_what_is_said_is_written_and_progress_is_told_elsewhere(say: Project) -> None:
    code, out, err = say.orchestra("run", "pipelines.say:say", "--text", "hello big world")
    assert (code, out) == (0, "HELLO BIG WORLD \n")
    assert [line.split(maxsplit=2)[2] for line in err.splitlines()][-1] == "done"
    assert "upper took" in err.splitlines()[0]
    assert "words took" in err
    assert "3 chunks" in err


def test_quiet_leaves_only_what_is_said(say: Project) -> None:
    words = ("run", "pipelines/say.py:say", "--text", "a", "--times=2", "--quiet")
    assert say.orchestra(*words) == (0, "A A \n", "")


def test_a_value_is_written_as_json(say: Project) -> None:
    code, out, _ = say.orchestra("run", "pipelines.say:count", "--texts", "a", "--texts", "bb")
    assert code == 0
    assert json.loads(out) == [{"a": 1}, {"bb": 2}]


FAILING = """\
    from collections.abc import AsyncIterator

    from orchestra import Failed, Stream, each, pipeline, step


    @step
    async def number(line: str) -> int:
        return int(line)


    @step
    async def lines_of(text: str) -> AsyncIterator[str]:
        for line in text.split():
            yield line


    @pipeline
    def numbers(lines: list[str]) -> list[int | Failed[str]]:
        return each(lines, number, at_once=2, failures_max=1)


    @pipeline
    def streamed(text: str) -> Stream[int | Failed[str]]:
        return each(lines_of(text), number, at_once=1, failures_max=1)
"""


def test_an_item_that_failed_is_told_in_the_result_and_in_the_progress(project: Project) -> None:
    project.write("p.py", FAILING)
    lines = ("--lines", "3", "--lines", "x", "--lines", "5")
    code, out, err = project.orchestra("run", "p.py:numbers", *lines)
    first, failed, last = json.loads(out)
    assert (code, first, last) == (0, 3, 5)
    assert (failed["kind"], failed["item"], failed["error"]) == ("failed", "x", "ValueError")
    assert "each goes on without item 1: ValueError: invalid literal" in err
    code, out, _ = project.orchestra("run", "p.py:streamed", "--text", "3 x 5")
    assert code == 0
    assert json.loads(out.splitlines()[1])["kind"] == "failed"


def test_one_item_too_many_that_failed_ends_it(project: Project) -> None:
    project.write("p.py", FAILING)
    code, out, err = project.orchestra("run", "p.py:numbers", "--lines", "x", "--lines", "y")
    assert (code, out) == (FAILED, "")
    assert "more than 1 of the items of 'each' have failed" in err


def test_events_are_lines_of_json(say: Project) -> None:
    code, out, err = say.orchestra("run", "pipelines.say:say", "--text", "a b", "--events")
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["chunk"] for event in events if event["type"] == "delta"] == ["A ", "B "]
    assert events[-1]["type"] == "run.finished"


def test_json_is_one_object(say: Project) -> None:
    text = '{"text": "a b"}'
    code, out, err = say.orchestra("run", "pipelines.say:say", "--input-json", text, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert list(found) == ["run_id", "result", "timings_s", "usage", "usage_by_model", "cut"]
    assert found["result"] == "A B "
    assert set(found["timings_s"]) == {"upper", "words"}


@pytest.mark.parametrize("how", [[], ["--events"], ["--json"]])
def test_a_step_that_fails_is_told_with_its_lines(say: Project, how: list[str]) -> None:
    code, _, err = say.orchestra("run", "pipelines.say:say", "--text", "boom", "--quiet", *how)
    assert code == FAILED
    assert err == (
        "error: step 'upper' failed: ValueError: no booms here\n"
        "  called at pipelines/say.py:25    return words(upper(text), times=times)\n"
        '  raised at pipelines/say.py:11    raise ValueError("no booms here")\n'
    )


def test_a_failed_step_shows_its_traceback_if_asked(say: Project) -> None:
    words = ("run", "pipelines.say:say", "--text", "boom", "--quiet", "--traceback")
    code, _, err = say.orchestra(*words)
    assert code == FAILED
    assert "Traceback" in err
    assert "ExceptionGroup" not in err
    assert err.count("error: step 'upper' failed") == 1


def test_a_failure_without_a_step_is_told(project: Project) -> None:
    project.write(
        "p.py",
        """\
        import trio
        from orchestra import pipeline, step

        @step
        async def wait(x: int) -> int:
            await trio.sleep_forever()
            return x

        @pipeline(deadline_s=0.01)
        def late(x: int = 1) -> int:
            return wait(x)
        """,
    )
    code, out, err = project.orchestra("run", "p")
    assert (code, out) == (FAILED, "")
    assert err == "error: DeadlineError: pipeline 'late' was not done within deadline_s=0.01 s\n"


def test_bad_inputs_show_how_it_is_called(say: Project) -> None:
    code, out, err = say.orchestra("run", "pipelines.say:say", "--txt", "x")
    assert (code, out) == (MISUSED, "")
    assert err == (
        "error: there is no input or option --txt; did you mean --text?\n"
        "  --text is missing\n"
        "  usage: orchestra run pipelines.say:say --text str [--times int]\n"
    )


def test_events_and_json_exclude_each_other(say: Project) -> None:
    code, _, err = say.orchestra("run", "pipelines.say:say", "--text", "x", "--events", "--json")
    assert (code, err) == (MISUSED, "error: --events and --json exclude each other\n")


def test_a_pipeline_with_problems_does_not_run(project: Project) -> None:
    project.write(
        "p.py",
        """\
        from orchestra import Stream, pipeline
        from orchestra.steps.generate import generate

        @pipeline
        def p(text: str, unused: int = 0) -> Stream[str]:
            return generate(text, model="smrt")
        """,
    )
    code, out, err = project.orchestra("run", "p", "--text", "x")
    assert (code, out) == (FAILED, "")
    assert "[unused-input]" in err
    assert "did you mean 'smart'?" in err
    assert "Traceback" not in err


def test_words_come_as_they_are_said(endless: Project, wait_for: WaitFor) -> None:
    """The first is there while the second is not yet known."""
    gate = endless.folder / "gate"
    os.mkfifo(gate)
    process = endless.launch("run", "p:endless", "--gate", str(gate), "--quiet")
    assert wait_for(process, b"on and on ") == b"on and on "
    gate.write_text("and off")
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (0, b"and off\n", b"")


SIGNALS = {signal.SIGINT: (INTERRUPTED, b"Ctrl-C"), signal.SIGTERM: (TERMINATED, b"SIGTERM")}


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("how", [[], ["--events"]])
def test_a_signal_cancels_the_run(
    endless: Project, wait_for: WaitFor, how: list[str], number: signal.Signals
) -> None:
    process = endless.launch("run", "p:endless", "--quiet", *how)
    wait_for(process, b"on and on ")
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    code, name = SIGNALS[number]
    assert process.returncode == code
    assert err == b"error: the run was cancelled: " + name + b"\n"
    assert (endless.folder / "stopped").exists()
    assert (b'"run.cancelled"' in out) is bool(how)


def test_a_second_signal_kills_what_cannot_be_interrupted(
    endless: Project, wait_for: WaitFor
) -> None:
    process = endless.launch("run", "p:stubborn")
    wait_for(process, b"sulking")
    for _ in range(100):
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
        break
    assert process.returncode == -signal.SIGINT


def test_a_reader_that_leaves_ends_the_run(endless: Project, wait_for: WaitFor) -> None:
    """`orchestra run ... | head -c 1`: no error, no traceback, and the step is stopped."""
    process = endless.launch("run", "p:endless", "--first", "x" * 100_000, "--quiet")
    wait_for(process, b"x")
    out_of(process).close()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (PIPE_CLOSED, b"")
    assert (endless.folder / "stopped").exists()


def test_what_a_step_has_printed_is_no_error_when_the_reader_has_left(
    endless: Project, wait_for: WaitFor
) -> None:
    """It waits in Python's buffer, and cannot be written when Python ends."""
    file = endless.folder / "p.py"
    file.write_text(file.read_text() + '\nprint("imported")\n')
    process = endless.launch("run", "p:endless", "--first", "x" * 100_000, "--quiet")
    wait_for(process, b"x")
    out_of(process).close()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (PIPE_CLOSED, b"")


def test_a_reader_that_has_stopped_reading_does_not_hold_up_ctrl_c(
    endless: Project, wait_for: WaitFor
) -> None:
    process = endless.launch("run", "p:endless", "--first", "x" * 100_000, "--quiet")
    assert len(os.read(out_of(process).fileno(), 1)) == 1  # the rest does not fit into the pipe
    process.send_signal(signal.SIGINT)
    process.wait(timeout=PATIENCE_S)
    assert process.returncode == INTERRUPTED
    assert err_of(process).read() == b"error: the run was cancelled: Ctrl-C\n"


def test_on_a_terminal_there_is_colour_and_no_trick(endless: Project) -> None:
    ours, theirs = pty.openpty()
    gate = endless.write("gate", "\x1b]0;gotcha\x07")
    environment = {"TERM": "xterm", "NO_COLOR": ""}
    words = ("run", "p:endless", "--gate", str(gate))
    process = endless.launch(*words, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    first, *rest = read_terminal(ours).split("\n")
    assert process.wait(timeout=PATIENCE_S) == 0
    assert first == "on and on \N{REPLACEMENT CHARACTER}]0;gotcha\N{REPLACEMENT CHARACTER}"
    assert all(line.startswith("\x1b[2m") for line in rest if line)


CALLED = """\
    from orchestra import Context, injected, pipeline, step
    from orchestra.values import ChatRequest, Message


    @step
    async def twice(text: str, *, context: Context = injected) -> str:
        for _ in range(2):
            await context.model("default").complete(ChatRequest((Message("user", text),)))
        return f"{context.caller.organisation}/{context.caller.user}"


    @pipeline
    def calling(text: str = "a") -> str:
        return twice(text)
"""


def test_who_calls_is_said_by_options_and_has_their_limits(project: Project) -> None:
    project.write("p.py", CALLED)
    project.write("orchestra.toml", "[limits.users.ada]\nrequests_per_minute = 1\nwait_max_s = 0\n")
    acme = ("--organisation", "acme")
    assert project.orchestra("run", "p.py:calling", "--quiet")[:2] == (0, "/\n")
    assert project.orchestra("run", "p.py:calling", "--quiet", *acme)[:2] == (0, "acme/\n")
    code, _, err = project.orchestra("run", "p.py:calling", "--user", "ada")
    assert code == FAILED
    assert "refused by limit requests_per_minute of user 'ada'" in err


def test_tags_are_options(project: Project) -> None:
    project.write("p.py", CALLED)
    tags = ("--tag", "team=search", "--tag", "query=a=b")
    code, out, _ = project.orchestra("run", "p.py:calling", "--events", *tags)
    started = json.loads(out.splitlines()[0])
    assert (code, started["tags"]) == (0, {"team": "search", "query": "a=b"})


@pytest.mark.parametrize("command", [("run", "p.py:calling"), ("batch", "p.py:calling", "rows")])
def test_a_tag_that_is_none_is_refused(project: Project, command: list[str]) -> None:
    project.write("p.py", CALLED)
    project.write("rows", "{}")
    code, _, err = project.orchestra(*command, "--tag", "search")
    assert code == MISUSED
    assert "--tag: 'search' is not a tag; write name=value, such as team=search" in err


@pytest.mark.parametrize("command", [("run", "p.py:calling"), ("batch", "p.py:calling", "rows")])
def test_a_caller_that_no_key_can_name_is_refused(project: Project, command: list[str]) -> None:
    project.write("p.py", CALLED)
    project.write("rows", "{}")
    code, _, err = project.orchestra(*command, "--user", "acme/ada")
    assert code == MISUSED
    assert "--user: 'acme/ada' contains a /" in err
    assert "write only the user, as `orchestra keys list` shows it" in err
