"""What went wrong, as one block for a person and as an exit code for a script. Pure."""

from __future__ import annotations

import linecache
import os
import re
import sysconfig
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from traceback import walk_tb

from orchestra.errors import CheckError, InputError, OrchestraError
from orchestra.graph.source.frames import place
from orchestra.messages import describe
from orchestra.problem import Problem

FAILED = 1
"""A run failed, or a pipeline has problems."""
MISUSED = 2
"""The command was called wrongly: an unknown option, a bad input."""
INTERRUPTED = 130
"""Ctrl-C: 128 and the signal's number, as shells count."""
PIPE_CLOSED = 141
"""Whoever read the output has gone: 128 and SIGPIPE."""
TERMINATED = 143
"""SIGTERM."""

_NO_STORE = re.compile(r"there is no store '(.+)'")
LEAVES_MAX = 10
"""Errors that are told of a group."""


class CommandError(OrchestraError):
    """A command cannot do what it was asked; the message is all that is shown."""

    def __init__(self, message: str, *, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def explain(error: BaseException) -> tuple[str, int]:
    """What to tell of an error, and the exit code; of several raised at once, of each.

    Empty where there is nothing to tell: the user pressed Ctrl-C, or closed the pipe.
    """
    told = [_explain(leaf) for leaf in islice(_leaves(error), LEAVES_MAX)]
    for text, code in told:
        if not text:
            return text, code
    return "\n".join(dict.fromkeys(text for text, _ in told)), told[0][1]


def store_advice(problems: Iterable[Problem]) -> str:
    """What a command says beyond the problems themselves: how a store comes to be."""
    for problem in problems:
        if found := _NO_STORE.search(problem.message):
            return f"\n    a store is made by: orchestra ingest FOLDER --store {found[1]}"
    return ""


def raised_at(error: BaseException) -> tuple[str, int] | None:
    """File and line where the user's own code raised it; None where only ours or others' did."""
    found = None
    for frame, line in walk_tb(error.__traceback__):
        if not frame.f_code.co_filename.startswith(_OTHERS):
            found = frame.f_code.co_filename, line
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return error.filename, error.lineno
    return found


def quoted(filename: str, line: int) -> str:
    """`file:line`, and what stands there."""
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
    if isinstance(error, OSError):  # the world's fault, and it says all there is to say
        return describe(error), FAILED
    return f"{describe(error)}\n--traceback shows where", FAILED


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, and in the groups in it."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


_OTHERS = (
    "<",
    *(
        folder + os.sep
        for folder in (
            str(Path(__file__).parent.parent),
            *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
        )
    ),
)

"""Where code lies that is neither the user's nor the project's."""
