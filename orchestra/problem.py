"""A problem that `check` found. The errors that carry problems are in `errors`."""

from __future__ import annotations

from orchestra.eventclass import frozen


@frozen
class Problem:
    """One thing that is wrong with a pipeline, before it ever ran.

    `code` is stable, for tools (`type-clash`); `where` is `file:line`, as an editor opens
    it; `message` names both ends and the offending value; `fix` is what to write instead.
    """

    code: str
    where: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message} [{self.code}]\n    fix: {self.fix}"
