"""The log's entries of runs that failed: a line for each, and the details once a minute and cause.

The theory: in an outage, hundreds of runs a second fail for one cause. Its details (the errors of
all arms and models, the traceback) are the same in each entry, and would hide everything else. So
the first entry has them; those that follow within `DETAILS_EVERY_S` are one short line, which names
the run whose entry has them. A cause is what was asked for, with the errors in it: one of ours by
its class and its model, any other by its class and the lines that its tracebacks pass.

Rules of the file: at most `CAUSES_MAX` causes are remembered; the one whose details are the oldest
is forgotten first, and then logged with its details again.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator
from traceback import walk_tb
from typing import TYPE_CHECKING

import msgspec

from orchestra.codecs.serving.decisive import leaves
from orchestra.errors import ModelError, OrchestraError
from orchestra.events import RunFailed
from orchestra.messages import class_name
from orchestra.server.runs.problems import kind_of
from orchestra.server.runs.words import asked, failed_at, model_of
from orchestra.surrogates import escaped

if TYPE_CHECKING:
    from orchestra.engine.run import Run

log = logging.getLogger("orchestra.server")

SERVER_FAULT = 500
DETAILS_EVERY_S = 60.0
"""How often an operator who looks at the end of the log needs the details of a lasting failure."""
CAUSES_MAX = 256
LINE_CHARS = 160
"""The most characters of a message in a short line: enough for most errors of one model."""
ERRORS_MAX = 64
"""The most errors of one chain whose places tell causes apart."""


class Detailed(msgspec.Struct):
    """The last entry with the details of a cause, and how many runs have failed so since."""

    run_id: str
    at_s: float
    more: int = 0


class Causes:
    """The causes whose details the log has."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Detailed] = {}

    def __len__(self) -> int:
        return len(self._known)

    def told(self, cause: Hashable, run_id: str, now_s: float) -> tuple[Detailed | None, bool]:
        """The entry that had the details before this run, and whether it is recent enough.

        If it is not, the entry of this run is to have them.
        """
        before = self._known.get(cause)
        if before is not None and now_s < before.at_s + DETAILS_EVERY_S:
            before.more += 1
            return before, True
        self._known.pop(cause, None)
        while len(self._known) >= CAUSES_MAX:
            del self._known[next(iter(self._known))]
        self._known[cause] = Detailed(run_id, now_s)
        return before, False


def report(run: Run, causes: Causes, now_s: float) -> None:
    """Log why a run failed, whether or not anybody follows it.

    A foreign exception is logged with its traceback, since clients are not told its message; of
    several, in arms, the first. An error of the provider or of the deployment has no traceback.
    Errors that the caller can fix (in the request, rate or budget) are not logged.
    """
    error, last = run.error, run.journal.last
    if error is None or not isinstance(last, RunFailed):
        return
    foreign = next((each for each in leaves(error) if not isinstance(each, OrchestraError)), None)
    if foreign is None and not any(kind_of(each).status >= SERVER_FAULT for each in leaves(error)):
        return
    at, text = failed_at(error), escaped(f"{last.error}: {last.message}")
    brief = shortened(text)
    what, level = asked(run), logging.ERROR if error is foreign else logging.WARNING
    before, recent = None, False
    if foreign is not None or brief != text:
        before, recent = causes.told(cause_of(run, error), run.id, now_s)
    if before is not None and recent:
        why = f"{at}: {brief}{_within(error)}, as run {before.run_id} did"
        log.log(level, "run %s of %s failed%s", run.id, what, why)
        return
    end = "" if error is foreign else f"{at}: {text}"
    if before is not None and before.more:
        end += f" ({before.more} more runs have failed so since run {before.run_id})"
    log.log(level, "run %s of %s failed%s", run.id, what, end, exc_info=foreign)


def shortened(text: str) -> str:
    """The first line of a message, up to `LINE_CHARS`; the message itself if that is all of it."""
    first = text.split("\n", 1)[0].rstrip(":")
    return first if len(first) <= LINE_CHARS else first[: LINE_CHARS - 3] + "..."


def _within(error: BaseException) -> str:
    """The classes of the errors in an error, such as ` (OverloadedError)`; "" if it has none."""
    names = dict.fromkeys(class_name(each) for each in leaves(error) if each is not error)
    return f" ({', '.join(names)})" if names else ""


def cause_of(run: Run, error: BaseException) -> Hashable:
    """What tells the failures apart whose details are logged; it refers to no object of the run."""
    return run.pipeline, model_of(run), *dict.fromkeys(map(_identity, leaves(error)))


def _identity(error: BaseException) -> Hashable:
    if isinstance(error, OrchestraError):
        return class_name(error), error.name if isinstance(error, ModelError) else ""
    return class_name(error), hash(frozenset(_places(error)))


def _places(error: BaseException) -> Iterator[tuple[str, str, int]]:
    """The lines that the tracebacks of an error, and of those behind it, pass; in any order."""
    seen: set[int] = set()
    found: list[BaseException | None] = [error]
    while found and len(seen) < ERRORS_MAX:
        each = found.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        for frame, line in walk_tb(each.__traceback__):
            yield class_name(each), frame.f_code.co_filename, line
        found += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            found += each.exceptions
