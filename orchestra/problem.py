"""A problem that `check` found. The exceptions that carry problems are in `errors`."""

from __future__ import annotations

from orchestra.eventclass import frozen


@frozen
class Problem:
    """One mistake in a pipeline or a configuration, found before any run.

    `code` is stable, for tools (`type-clash`); `where` is `file:line`, which editors can open;
    `message` names both ends of an edge and the offending value; `fix` is what to write instead.
    """

    code: str
    where: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message} [{self.code}]\n    fix: {self.fix}"
