"""Modules written in tests: user code as text, so that its lines are known and no checker minds."""

from __future__ import annotations

import io
import itertools
import linecache
import textwrap
from typing import Any

_numbers = itertools.count(1)

PREAMBLE = """\
import json, math, statistics
from collections.abc import AsyncIterator
from typing import Any, Literal
from orchestra import Context, Policy, Stream, collect, each, fallback, injected, pipeline, prompt
from orchestra import Retry, race, route, step
from orchestra.values import Label, Message, Passage
"""


class Written:
    """A module that was written here: its names, and its lines."""

    def __init__(self, source: str, *, preamble: str = PREAMBLE) -> None:
        self.filename = f"<written {next(_numbers)}>"
        self.source = preamble + textwrap.dedent(source)
        lines = [*io.StringIO(self.source)]  # as a file is read
        linecache.cache[self.filename] = (len(self.source), None, lines, self.filename)
        self.names: dict[str, Any] = {"__name__": "written"}

    def run(self) -> Written:
        """Execute it, as an import would."""
        exec(compile(self.source, self.filename, "exec", dont_inherit=True), self.names)
        return self

    def __getitem__(self, name: str) -> Any:
        return self.names[name]

    def where(self, mark: str) -> str:
        """`file:line` of the only line that holds the mark."""
        found = [n for n, line in enumerate(self.source.splitlines(), 1) if mark in line]
        assert len(found) == 1, f"{mark!r} is in lines {found}"
        return f"{self.filename}:{found[0]}"


def written(source: str) -> Written:
    """A module with this source below the usual imports, executed."""
    return Written(source).run()
