"""`orchestra check`: reports all problems of pipelines before they run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from orchestra.cli import terminal
from orchestra.cli.failures import FAILED, CommandError, store_advice
from orchestra.cli.loading import AnyPipeline, chosen, load_all, namesakes
from orchestra.cli.parameters import Config, Data, Flag
from orchestra.messages import counted

if TYPE_CHECKING:
    from orchestra.config import LocalBindings


def check(*targets: str, explain: Flag = False, data: Data = None, config: Config = None) -> int:
    """Report every problem of the configuration and of every pipeline; exit with 1 if any.

    Parameters
    ----------
    targets
        MODULE[:PIPELINE], ...; by default all pipelines in `pipelines/`.
    explain
        Print for each edge whether it streams, and why.
    """
    import trio

    from orchestra.cli.deployment_checks import (
        forgotten_budgets,
        hidden_by_models,
        missing_for,
        unknown_pipelines,
        unservable,
    )
    from orchestra.cli.model_views import misread_in, unset_in
    from orchestra.cli.unknown_owners import unknown_owners
    from orchestra.config import default_bindings
    from orchestra.config.finding import find_file
    from orchestra.errors import ConfigError

    problems: list[str] = []
    bindings: LocalBindings | None = None
    try:
        bindings = default_bindings(data, config=config)
    except ConfigError as error:  # then names in pipelines cannot be checked
        problems += map(str, error.problems)
    else:
        problems += [
            *missing_for(bindings.deployment),
            *misread_in(bindings.deployment, os.environ),
        ]
    modules = chosen(targets, needed=find_file(config, os.environ) is None)
    with bindings or nullcontext():
        pipelines, unread = _load(modules, targets)
        problems += unread
        if bindings is not None and not targets and not unread:
            problems += unknown_pipelines(pipelines, bindings.deployment)
        problems += namesakes(pipelines)
        for note in unservable(pipelines):
            terminal.note(note, "yellow")
        if bindings is not None:
            for note in (
                *unset_in(bindings.deployment, os.environ),
                *hidden_by_models(pipelines, bindings),
                *forgotten_budgets(bindings),
                *trio.run(unknown_owners, bindings),
            ):
                terminal.note(note, "yellow")
        for pipeline in pipelines:
            problems += _check(pipeline, bindings, explain=explain)
    problems = list(dict.fromkeys(problems))  # a pipeline has those of what it calls
    for problem in problems:
        terminal.say(problem)
    terminal.say(f"{_number(len(pipelines), 'pipeline')}, {_number(len(problems), 'problem')}")
    return FAILED if problems else 0


def _load(modules: Sequence[str], named: Sequence[str]) -> tuple[list[AnyPipeline], list[str]]:
    """The pipelines of these modules, and why others could not be loaded."""
    pipelines: list[AnyPipeline] = []
    problems: list[str] = []
    for each in modules:
        try:
            pipelines += load_all(each, needed=each in named)
        except CommandError as error:
            problems.append(str(error))
    return pipelines, problems


def _check(pipeline: AnyPipeline, bindings: LocalBindings | None, *, explain: bool) -> list[str]:
    """The problems of one pipeline; if it has none, `explain` prints its streaming report."""
    from orchestra.cli.deployment_checks import (
        missing_for_pipeline,
        never_falling_back,
        perhaps_missing,
        without_keyword_search,
    )
    from orchestra.compiler.plan import plan
    from orchestra.errors import CheckError, StoreError

    try:
        made = plan(pipeline, bindings)
    except CheckError as error:
        return [f"{problem}{store_advice([problem])}" for problem in error.problems]
    except StoreError as error:
        return [f"{pipeline.where}: the stores of {pipeline.name} cannot be checked: {error}"]
    slow = () if bindings is None else never_falling_back(made, bindings.deployment)
    for note in (*perhaps_missing(made), *slow):
        terminal.note(note, "yellow")
    lacks: list[str] = []
    if bindings is not None:
        for find in (missing_for_pipeline, without_keyword_search):
            lacks += find(made, bindings.deployment)
    if explain and not lacks:
        terminal.say(made.explain())
    return lacks


def _number(count: int, noun: str) -> str:
    return counted(count, noun) if count else f"no {noun}s"
