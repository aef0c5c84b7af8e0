"""Errors of commands: as one block of text for people, and as an exit code for scripts. Pure."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterable
from traceback import walk_tb

from orchestra.errors import CheckError, InputError, OrchestraError
from orchestra.graph.source.frames import is_own, place
from orchestra.groups import leaves
from orchestra.messages import describe
from orchestra.problem import Problem

FAILED = 1
"""A run failed, or a pipeline has problems."""
MISUSED = 2
"""The command was called wrongly: an unknown option, a bad input."""
INTERRUPTED = 130
"""Ctrl-C: 128 and the signal's number, as shells count."""
PIPE_CLOSED = 141
"""The reader of the output has closed it: 128 and SIGPIPE."""
TERMINATED = 143
"""SIGTERM."""

_NO_STORE = re.compile(r"there is no store '(.+)'")
LEAVES_MAX = 10
"""The most errors of a group that are shown."""


class CommandError(OrchestraError):
    """A command has failed; only the message is shown."""

    def __init__(self, message: str, *, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def explain(error: BaseException) -> tuple[str, int]:
    """The text for an error, or for each of a group, and the exit code.

    The text is empty after Ctrl-C, or if the user closed the pipe.
    """
    explained = [_explain(leaf) for leaf in leaves(error)[:LEAVES_MAX]]
    for text, code in explained:
        if not text:
            return text, code
    return "\n".join(dict.fromkeys(text for text, _ in explained)), explained[0][1]


def store_advice(problems: Iterable[Problem]) -> str:
    """The advice after problems about missing stores: how to make a store."""
    for problem in problems:
        if found := _NO_STORE.search(problem.message):
            return f"\n    a store is made by: orchestra ingest FOLDER --store {found[1]}"
    return ""


def raised_at(error: BaseException) -> tuple[str, int] | None:
    """File and line in the user's own code where it was raised; None if there is none."""
    found = None
    for frame, line in walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if is_own(file) and not file.startswith("<"):  # as of generated code
            found = file, line
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return error.filename, error.lineno
    return found


def quoted(filename: str, line: int) -> str:
    """`file:line`, and the source line."""
    text = linecache.getline(filename, line).strip()
    return place(filename, line) + (f"    {text}" if text else "")


def _explain(error: BaseException) -> tuple[str, int]:
    match error:
        case KeyboardInterrupt():
            return "", INTERRUPTED
        case BrokenPipeError():
            return "", PIPE_CLOSED
        case SystemExit(code=code):
            return "", code if isinstance(code, int) else FAILED
        case CommandError():
            return str(error), error.code
        case InputError():
            return str(error), MISUSED
        case CheckError():
            return str(error) + store_advice(error.problems), FAILED
        case OrchestraError():
            return str(error), FAILED
    if at := raised_at(error):
        return f"{describe(error)}\nraised at {quoted(*at)}", FAILED
    if isinstance(error, OSError):  # not a fault of the code, so its message is enough
        return describe(error), FAILED
    return f"{describe(error)}\n--traceback shows where", FAILED
