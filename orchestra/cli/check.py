"""`orchestra check`: everything that is wrong with some pipelines, before they ever run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.cli import terminal
from orchestra.cli.failures import FAILED, CommandError, advice
from orchestra.cli.loading import AnyPipeline, chosen, load_all
from orchestra.cli.parameters import DATA, Flag

if TYPE_CHECKING:
    from orchestra.protocols import Bindings


def check(*targets: str, explain: Flag = False, data: Path = DATA) -> int:
    """Tell every problem of every pipeline, and exit with 1 if there is any.

    Parameters
    ----------
    targets
        MODULE[:PIPELINE], ...; by default all pipelines in `pipelines/`.
    explain
        Print of each edge whether it streams, and why.
    data
        Where ingested stores are.
    """
    from orchestra.config import default_bindings

    problems: list[str] = []
    count = 0
    for each in chosen(targets):
        try:
            pipelines = load_all(each, needed=bool(targets))
        except CommandError as error:
            problems.append(str(error))
            continue
        count += len(pipelines)
        with default_bindings(data) as bindings:
            for pipeline in pipelines:
                problems += _check(pipeline, bindings, explain=explain)
    for problem in problems:
        terminal.say(problem)
    terminal.say(f"{_number(count, 'pipeline')}, {_number(len(problems), 'problem')}")
    return FAILED if problems else 0


def _check(pipeline: AnyPipeline, bindings: Bindings, *, explain: bool) -> list[str]:
    """What is wrong with one pipeline. If nothing is, `explain` prints what it does."""
    from orchestra.compiler.plan import plan
    from orchestra.errors import CheckError

    try:
        made = plan(pipeline, bindings)
    except CheckError as error:
        return [f"{problem}{advice([problem])}" for problem in error.problems]
    if explain:
        terminal.say(made.explain())
    return []


def _number(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}" + ("" if count == 1 else "s")
