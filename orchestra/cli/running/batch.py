"""`orchestra batch`: a run for each row of a file, and a line for each result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import trio
from cyclopts import Parameter
from cyclopts.validators import Number

from orchestra.accounts import Usage
from orchestra.batch.batch import OUTAGE_S, RETRY, Batch, BatchRules, Progress
from orchestra.cli import terminal
from orchestra.cli.failures import FAILED, MISUSED, CommandError
from orchestra.cli.loading import load
from orchestra.cli.parameters import (
    Config,
    Count,
    Data,
    Organisation,
    Seconds,
    TagOptions,
    User,
    Word,
)
from orchestra.cli.run_views import duration
from orchestra.cli.running.options import caller_of, refuse_unreadable, tags_given
from orchestra.cli.running.rows import RowsFile, is_piped, readable_twice
from orchestra.cli.stopping import CODES, NAMES, on_signal
from orchestra.engine.engine import open_engine
from orchestra.groups import groupless_nursery
from orchestra.messages import counted
from orchestra.policies.money.prices import in_dollars

if TYPE_CHECKING:
    import signal

    from orchestra.protocols import Bindings

TELL_S = 10.0
"""Seconds between progress lines, if the output is not a terminal."""
SHOW_S = 0.5
"""Seconds between updates of the progress bar on a terminal."""
Failures = Annotated[int, Parameter(validator=Number(gte=0))]
Patience = Annotated[float, Parameter(validator=Number(gte=0, lt=inf))]


def batch(
    target: str,
    rows: Annotated[Path, Parameter(allow_leading_hyphen=True)],  # -
    /,
    *,
    results: Annotated[Path | None, Parameter(show_default=False)] = None,
    id: Word = "",  # noqa: A002 - its name on the command line
    at_once: Count = 8,
    failures_max: Failures = 100,
    attempts_max: Count = 5,
    outage_max_s: Patience = OUTAGE_S,
    drain_s: Seconds = 20,
    organisation: Organisation = "",
    user: User = "",
    tag: TagOptions = None,
    data: Data = None,
    config: Config = None,
) -> int:
    """Run a pipeline for each row of a file, and write a line of JSON for each result.

    Run again, it resumes: it skips rows that have a result, and repeats those that failed or whose
    inputs have changed. It exits with 1 if a row has failed.

    Parameters
    ----------
    target
        MODULE[:PIPELINE], such as `pipelines.answer`.
    rows
        A file with a JSON object of inputs in each line, or a CSV file whose header names them; -
        is standard input. The value of a document is its path.
    results
        Where the lines are written; by default beside the rows, as ROWS.results.jsonl. Rows that
        come through a pipe need it.
    id
        The field or column that is a row's id; by default the row's number.
    at_once
        How many rows run at the same time.
    failures_max
        Rows that may fail; one more stops the batch.
    attempts_max
        How often a row is tried at most, if a provider is overloaded or fails.
    outage_max_s
        Seconds to wait for a model that cannot be called; then the batch stops, to be resumed.
    drain_s
        Seconds that running rows may go on after Ctrl-C.
    """
    from orchestra.config import default_bindings

    pipeline = load(target)
    refuse_unreadable(pipeline.inputs, ())
    into = _apart(results or _beside(rows), rows)
    rules = BatchRules(at_once=at_once, failures_max=failures_max, outage_max_s=outage_max_s)
    rules = attrs.evolve(rules, retry=attrs.evolve(RETRY, attempts_max=attempts_max))
    by: dict[str, Any] = {"caller": caller_of(organisation, user), "tags": tags_given(tag)}
    with readable_twice(rows) as copy:
        source = RowsFile(rows, pipeline.inputs, id, copy)
        made = partial(Batch, pipeline=pipeline, rows=source, results=into, rules=rules, **by)
        run = partial(_batch, made, total=source.check(), into=into, drain_s=drain_s)
        with default_bindings(data, config=config, patient=True) as bindings:
            return trio.run(run, bindings)


def _beside(rows: Path) -> Path:
    """The default file of results, beside the rows."""
    if is_piped(rows):
        text = f"{rows}: rows through a pipe need --results FILE, where their results are written"
        raise CommandError(text, code=MISUSED)
    return rows.parent / f"{rows.stem}.results.jsonl"


def _apart(results: Path, rows: Path) -> Path:
    """The file of results; refuses the file of rows, since results would be read as rows."""
    if results.exists() and rows.exists() and results.samefile(rows):
        text = f"{results}: results cannot be written into the rows; name another file: --results"
        raise CommandError(text, code=MISUSED)
    return results


async def _batch(
    made: Callable[..., Batch], bindings: Bindings, *, total: int, into: Path, drain_s: float
) -> int:
    stopped: list[signal.Signals] = []
    async with open_engine(bindings) as engine:
        batch, began_s = made(engine), trio.current_time()

        def stop(number: signal.Signals) -> None:
            stopped.append(number)
            batch.stop(drain_s)
            terminal.note(f"running rows have {drain_s:g} s to end", needed=False)

        try:
            async with groupless_nursery() as nursery:
                try:
                    await nursery.start(on_signal, stop)
                    nursery.start_soon(_shown, batch.progress, total)
                    await batch.run()
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            if batch.progress.ended:
                lasted = duration(trio.current_time() - began_s)
                terminal.say(f"{into}: {summary(batch.progress, total)}; {lasted}")
    if stopped:
        raise CommandError(
            f"stopped by {NAMES[stopped[0]]}; the same command resumes from there",
            code=CODES[stopped[0]],
        )
    if failed := batch.progress.failed:
        rows = counted(failed, "row")
        terminal.complain(f"{rows} failed; the last was {batch.progress.last_failure}")
        return FAILED
    return 0


def summary(progress: Progress, total: int) -> str:
    """The progress of a batch, in one line."""
    there = progress.done_before + progress.finished
    before = f" ({progress.done_before} from before)" if progress.done_before else ""
    failed = f", {progress.failed} failed" if progress.failed else ""
    return f"{there} of {total} rows have a result{before}{failed}{cost(progress)}"


def cost(progress: Progress) -> str:
    """The text about tokens, and their cost as far as prices are known, and of which models not."""
    usage = progress.usage
    if usage == Usage():
        return ""
    tokens = f"; {usage.input_tokens} tokens in, {usage.output_tokens} out"
    costs = f"{tokens}, {in_dollars(usage.cost_nanodollars)}"
    if not usage.unpriced_calls:
        return costs
    by_model = sorted(progress.usage_by_model.items())
    models = ", ".join(model for model, used in by_model if used.unpriced_calls)
    calls = "1 call has" if usage.unpriced_calls == 1 else f"{usage.unpriced_calls} calls have"
    return f"{costs}, and {calls} no price{models and f' (models: {models})'}"


def rest(progress: Progress) -> str:
    """The text about the wait that a provider, breaker or limit asked for, while it lasts."""
    left_s = progress.rests_until_s - trio.current_time()
    return f"; no row starts for {left_s:.0f} s more" if left_s >= 1 else ""


async def _shown(progress: Progress, total: int) -> None:
    """Show progress from time to time."""
    with terminal.progress_bar(remaining=True) as show:
        while True:
            await trio.sleep(SHOW_S if show else TELL_S)
            if show:
                failed = f"{progress.failed} failed" if progress.failed else ""
                text = f"{failed}{cost(progress)}{rest(progress)}".removeprefix("; ")
                show(progress.ended, total, text)
            else:
                terminal.note(f"{summary(progress, total)}{rest(progress)}", needed=False)
