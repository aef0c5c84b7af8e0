"""The log: nobody but us writes an entry, whatever a provider or a client says."""

from __future__ import annotations

import json
import logging
import signal
from contextvars import copy_context
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.cli.serving.log import (
    EntryFormatter,
    JsonFormatter,
    Log,
    LogLevel,
    with_ids,
)
from orchestra.engine.current_run import CURRENT_RUN
from orchestra.observe.trace_context import TRACE, TraceContext
from orchestra.server.front.arrival import REQUEST_ID
from orchestra.tags import NO_TAGS
from tests.cli.conftest import Project, said
from tests.cli.serving.test_serve import listening
from tests.patience import PATIENCE_S

FORGED = "no\n2026-11-28 17:00:00,000 INFO orchestra.server: key ABC was created \x1b[31mRED\x1b[0m"


def record_of(message: str, error: Exception | None, name: str = "orchestra") -> logging.LogRecord:
    told = (type(error), error, None) if error is not None else None
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, "%s", (message,), told)
    assert with_ids(record)
    return record


def entry(message: str, error: Exception | None = None) -> str:
    formatter = EntryFormatter("%(levelname)s %(name)s%(request)s: %(message)s")
    return formatter.format(record_of(message, error))


def told(message: str, error: Exception | None = None, name: str = "orchestra") -> dict[str, Any]:
    """What the one line in JSON says."""
    line = JsonFormatter("worker 1").format(record_of(message, error, name))
    assert line.isascii()
    assert line.isprintable()
    return dict(json.loads(line))


@pytest.mark.parametrize(
    ("level", "own", "shown"),
    [("info", "NOTSET", False), ("debug", "NOTSET", True), ("info", "INFO", True)],
)
def test_where_steps_ask_by_httpx_is_told_to_who_wants_it(
    level: LogLevel, own: str, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It logs whole addresses, in which a question may be."""
    root, theirs = logging.getLogger(), logging.getLogger("httpx")
    levels = root.level, theirs.level
    monkeypatch.setattr(root, "handlers", [])
    try:
        theirs.setLevel(own)
        Log(level=level).begin("")
        assert theirs.isEnabledFor(logging.INFO) == shown
        assert theirs.isEnabledFor(logging.WARNING)
    finally:
        root.setLevel(levels[0])
        theirs.setLevel(levels[1])


def test_what_looks_like_an_entry_is_seen_to_be_none() -> None:
    assert entry(FORGED).split("\n") == [
        "ERROR orchestra: no",
        "  | 2026-11-28 17:00:00,000 INFO orchestra.server: key ABC was created "
        "\\x1b[31mRED\\x1b[0m",
    ]


def test_a_traceback_stands_below_its_entry() -> None:
    first, *below = entry("it failed", ValueError(FORGED)).split("\n")
    assert first == "ERROR orchestra: it failed"
    assert below[0] == "  | ValueError: no"
    assert "\x1b" not in below[1]


@given(st.text())
def test_an_entry_is_one_line_and_marked_ones(message: str) -> None:
    first, *below = entry(message, ValueError(message)).splitlines()
    assert first.startswith("ERROR orchestra: ")
    assert all(line.startswith("  | ") for line in below)
    shown = entry(message).replace("\n", "").replace("\t", "")
    assert not any(ord(each) < 0x20 or 0x7F <= ord(each) < 0xA0 for each in shown)


def test_other_words_are_told_as_they_are() -> None:
    assert entry("naïve café\tdé “à” 漢字 🎻") == "ERROR orchestra: naïve café\tdé “à” 漢字 🎻"


@given(st.text(st.characters()))
def test_in_json_an_entry_is_a_line_that_says_the_same(message: str) -> None:
    """Half characters too: a client may have sent them."""
    found = told(message, ValueError(message))
    assert found.get("message", "") == message
    assert found["exception"].startswith("ValueError")
    assert "exception" not in told(message)


def test_an_entry_in_json_says_who_and_when_and_for_which_request_run_and_trace() -> None:
    context, trace = copy_context(), TraceContext("a" * 32, "")
    context.run(REQUEST_ID.set, "7f")
    context.run(CURRENT_RUN.set, ("8e", NO_TAGS))
    context.run(TRACE.set, trace)
    found = context.run(told, "ready")
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "ERROR",
        "logger": "orchestra",
        "process": "worker 1",
        "request_id": "7f",
        "run_id": "8e",
        "trace_id": trace.trace_id,
        "message": "ready",
    }


def test_the_tags_of_a_run_are_an_object_and_cut_for_people() -> None:
    context = copy_context()
    context.run(REQUEST_ID.set, "7f")
    tags = {"team": "search", "forged": "]: a key was revoked", "text": "x\n" * 256}
    context.run(CURRENT_RUN.set, ("8e", tags))
    assert context.run(told, "ready")["tags"] == tags
    line = context.run(entry, "ready").replace("\n  | ", "\n")
    quoted = "'forged=]: a key was revoked' 'text=x\nx\n"
    assert line.startswith(f"ERROR orchestra [7f team=search {quoted}")
    assert len(line) < 260


def test_usage_is_an_object_of_its_own() -> None:
    found = told('{"run_id": "1", "cost_dollars": 0.000000001}', name="orchestra.usage")
    assert found["usage"] == {"run_id": "1", "cost_dollars": 1e-9}
    assert "message" not in found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_all_that_a_server_says_is_json_if_one_asks_for_it(say: Project, workers: str) -> None:
    process = say.launch("serve", "--port", "0", "--workers", workers, "--log-format", "json")
    found: list[dict[str, Any]] = []
    lines: list[str] = []
    said(process, "is listening on", lines)
    found += map(json.loads, lines)
    process.send_signal(signal.SIGTERM)
    out, rest = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, b"")
    found += map(json.loads, rest.splitlines())
    assert found[-1]["message"] == "orchestra has stopped"
    assert {each["level"] for each in found} == {"INFO"}
    several = {"supervisor", "worker 1"}
    assert {each.get("process") for each in found} >= ({None} if workers == "1" else several)


@pytest.mark.parametrize("level", ["info", "warning"])
def test_what_is_below_the_level_is_not_written(say: Project, level: str) -> None:
    """By the supervisor; it has told its workers the same: `test_workers`."""
    process = say.launch("serve", "--port", "0", "--workers", "2", "--log-level", level)
    listening(process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert (b" INFO supervisor " in err) == (level == "info")
