"""The log of a server, on standard error: for a person, or a JSON object for each entry.

For a person, an entry is one line, with further lines below. Entries quote providers and clients.
So that their text cannot imitate an entry, or control a terminal, all lines but the first are
marked, and control characters are escaped.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from shlex import quote
from typing import Any, Literal, TypeAlias

import attrs

from orchestra.cli import terminal
from orchestra.cli.failures import explain
from orchestra.cli.serving.log_handler import LogHandler

LogFormat: TypeAlias = Literal["text", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

USAGE = "orchestra.usage"
"""The logger whose messages are JSON objects."""
_TEXT = "%(asctime)s %(levelname)s {who}%(name)s%(request)s: %(message)s"
_BELOW = "\n  | "
_TAGS_CHARS = 200
"""The most characters of tags in an entry for a person."""
_log = logging.getLogger("orchestra.server")
_SEPARATORS = (0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
"""Of lines, and of text in two directions."""
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in (*terminal.CONTROLS, *_SEPARATORS)}


@attrs.frozen
class Log:
    """The settings of a server's log: its format, and its lowest level."""

    format: LogFormat = "text"
    level: LogLevel = "info"

    def begin(self, who: str) -> None:
        """Log to standard error; each entry says `who` of several processes writes it."""
        formatter = EntryFormatter(_TEXT.replace("{who}", f"{who} " if who else ""))
        handler = LogHandler(terminal.descriptor_of(terminal.ERR))
        handler.setFormatter(formatter if self.format == "text" else JsonFormatter(who))
        logging.basicConfig(level=self.level.upper(), handlers=[handler])
        for each in logging.getLogger().handlers:
            each.addFilter(with_ids)
        httpx_log = logging.getLogger("httpx")
        if self.level != "debug" and httpx_log.level == logging.NOTSET:
            httpx_log.setLevel(logging.WARNING)  # it logs whole URLs with queries

    @contextmanager
    def failures(self) -> Iterator[None]:
        """A context whose errors end the command; in JSON, they are entries of the log.

        Raises:
            SystemExit: in JSON, with the exit code, so that the error is not also written as text.
        """
        try:
            yield
        except Exception as error:
            message, code = explain(error)
            if self.format == "text" or not message:
                raise
            if not logging.getLogger().handlers:  # the error came before the log has begun
                self.begin("")
            _log.error("%s", message)
            raise SystemExit(code) from error

    def note(self, text: str) -> None:
        """Write a note for people to standard error, without waiting; in JSON it is an entry."""
        if self.format == "json":
            _log.info("%s", text.strip())
            return
        for each in logging.getLogger().handlers:
            if isinstance(each, LogHandler):
                line = terminal.paint(terminal.visible(text), "dim", sys.stderr)
                each.write(f"{line}\n".encode(errors="backslashreplace"))
                return
        terminal.note(text, needed=False)  # the pipelines' code has configured logging itself

    def say(self, text: str) -> None:
        """Like `note`, but on standard output; in JSON it is an entry, too."""
        if self.format == "text":
            terminal.say(text, needed=False)
        else:
            _log.info("%s", text)


class EntryFormatter(logging.Formatter):
    """Formats entries that quoted text cannot imitate."""

    def format(self, record: logging.LogRecord) -> str:
        """An entry, with its traceback."""
        return super().format(record).translate(_ESCAPES).replace("\n", _BELOW)


class JsonFormatter(logging.Formatter):
    """Formats each entry as a JSON object in a line of ASCII.

    `time` is in UTC; `exception` has the traceback. An entry of `USAGE` has an object `usage` in
    place of its message. Fields that do not apply are left out.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """An entry, with its traceback."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "process": self._process,
            **getattr(record, "ids", {}),
        }
        message = record.getMessage()
        if record.name == USAGE:
            entry["usage"] = json.loads(message)
        else:
            entry["message"] = message
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        return json.dumps({key: value for key, value in entry.items() if value != ""})


def with_ids(record: logging.LogRecord) -> bool:
    """True; adds the ids of the task's request, run and trace, and its tags, to an entry."""
    from orchestra.engine.current_run import CURRENT_RUN
    from orchestra.observe.trace_context import TRACE
    from orchestra.server.front.arrival import REQUEST_ID

    found, trace, (run_id, tags) = REQUEST_ID.get(), TRACE.get(), CURRENT_RUN.get()
    words = " ".join(quote(f"{name}={value}") for name, value in tags.items())
    about = " ".join(filter(None, (found, words[:_TAGS_CHARS])))
    record.request = f" [{about}]" if about else ""
    record.ids = {
        "request_id": found,
        "run_id": run_id,
        "trace_id": "" if trace is None else trace.trace_id,
        "tags": dict(tags) or "",
    }
    return True
