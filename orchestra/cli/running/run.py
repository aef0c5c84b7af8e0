"""`orchestra run`: one run of a pipeline, in this process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import trio
from cyclopts import Parameter

from orchestra.cli import terminal
from orchestra.cli.failures import FAILED, MISUSED, CommandError, quoted, raised_at
from orchestra.cli.loading import AnyPipeline, load
from orchestra.cli.parameters import Config, Data, Flag, Organisation, TagOptions, User
from orchestra.cli.run_views import Lines, Result, View, Words
from orchestra.cli.running.options import caller_of, read_inputs, tags_given, usage
from orchestra.cli.stopping import CODES, NAMES, on_signal
from orchestra.engine.engine import open_engine
from orchestra.errors import RunCancelledError
from orchestra.events import RunFailed
from orchestra.messages import describe

if TYPE_CHECKING:
    from orchestra.engine.engine import Observe
    from orchestra.engine.run import Run
    from orchestra.observe.traces import Trace
    from orchestra.protocols import Bindings

FAREWELL_S = 1.0
"""Seconds after Ctrl-C in which a reader that has stopped may still read the output."""


def run(
    target: str,
    /,
    *inputs: Annotated[str, Parameter(allow_leading_hyphen=True)],
    input_json: str | None = None,
    events: Flag = False,
    json: Flag = False,
    quiet: Flag = False,
    trace: Flag = False,
    organisation: Organisation = "",
    user: User = "",
    tag: TagOptions = None,
    data: Data = None,
    config: Config = None,
) -> int:
    """Run a pipeline once, and print its output as it comes.

    Its inputs are options: `orchestra run pipelines.answer --question "Why Trio?"`.

    Parameters
    ----------
    target
        MODULE[:PIPELINE], such as `pipelines.answer` or `pipelines/answer.py:answer`.
    inputs
        The pipeline's inputs: --name VALUE, several times for a list; an object is JSON, a
        document is its path. An input with the name of an option below needs --input-json.
    input_json
        All inputs, or some of them, as one JSON object.
    events
        Print every event as a line of JSON, as it happens.
    json
        Print one JSON object at the end: run_id, result, timings_s, usage, usage_by_model, cut.
    quiet
        Print no progress.
    trace
        At the end, print what the run spent its time on, and what each call of a model cost.
    """
    from orchestra.config import default_bindings

    pipeline = load(target)
    try:
        given = read_inputs(pipeline.inputs, inputs, json=input_json)
    except CommandError as error:
        raise CommandError(
            f"{error}\nusage: {usage(target, pipeline.inputs)}", code=MISUSED
        ) from error
    if events and json:
        raise CommandError("--events and --json exclude each other", code=MISUSED)
    start = {"caller": caller_of(organisation, user), "tags": tags_given(tag)}
    view = Lines() if events else Result() if json else None
    traces: list[Trace] = []
    observe = _traced(traces) if trace else None
    act = partial(_run, pipeline, given, view, start=start, quiet=quiet, observe=observe)
    with default_bindings(data, config=config) as bindings:
        try:
            return trio.run(act, bindings)
        finally:
            _tell(traces)


def _traced(traces: list[Trace]) -> Observe:
    """The observer of a run that builds its trace, which is in `traces` at the end."""
    from orchestra.observe.names import convention
    from orchestra.observe.traces import Traces

    return Traces(traces.append, convention(os.environ))


def _tell(traces: list[Trace]) -> None:
    """Write the traces to standard error, also those of a failed run."""
    for each in traces:
        from orchestra.cli.running.waterfall import waterfall

        terminal.note("\n".join(["", *waterfall(each.spans)]), colour=None)


async def _run(
    pipeline: AnyPipeline,
    given: Mapping[str, object],
    view: View | None,
    bindings: Bindings,
    *,
    start: Mapping[str, Any],
    quiet: bool,
    observe: Observe | None,
) -> int:
    async with open_engine(bindings, observe=observe) as engine:
        view = view or _words(streams=engine.plan(pipeline).streams, quiet=quiet)
        run = engine.start(pipeline, given, **start)
        async with trio.open_nursery() as nursery:
            following = trio.CancelScope()
            await nursery.start(on_signal, partial(_stop, run, following))
            with following:
                await _follow(run, view)
            await run.wait_ended()
            nursery.cancel_scope.cancel()
    return await _outcome(run)


def _words(*, streams: bool, quiet: bool) -> Words:
    """The view for people: on a terminal with colours, and without control characters."""
    return Words(
        streams=streams,
        quiet=quiet,
        visible=terminal.visible if sys.stdout.isatty() else str,
        dim=partial(terminal.paint, colour="dim", stream=sys.stderr),
    )


async def _follow(run: Run, view: View) -> None:
    """Write the view of the run; a slow reader slows the run."""
    with run.journal.attach() as reader:
        seq = 0
        while batch := await reader.after(seq):
            seq = batch[-1].seq
            for standard, data in view.feed(batch):
                with terminal.naming(standard):
                    await terminal.write(terminal.descriptor_of(standard), data)


def _stop(run: Run, following: trio.CancelScope, number: signal.Signals) -> None:
    run.cancel(NAMES[number])
    following.deadline = trio.current_time() + FAREWELL_S


async def _outcome(run: Run) -> int:
    """The exit code of a run that has ended.

    Raises:
        CommandError: it failed, or was cancelled.
    """
    last = run.journal.last
    try:
        await run.result()
    except RunCancelledError as error:
        codes = {NAMES[number]: code for number, code in CODES.items()}
        raise CommandError(str(error), code=codes.get(error.reason, FAILED)) from error
    except Exception as error:
        message = failed(error, last) if isinstance(last, RunFailed) else ""
        raise CommandError(message or describe(error)) from error
    return 0


def failed(error: Exception, last: RunFailed) -> str:
    """A run's failure for a person: the step, its error, and both source lines."""
    text = f"{last.error}: {last.message.strip()}" if last.message.strip() else last.error
    lines = [f"step {last.step!r} failed: {text}" if last.step else text]
    if last.where:
        filename, _, line = last.where.rpartition(":")
        lines.append(f"called at {quoted(filename, int(line))}")
    if at := raised_at(error):
        lines.append(f"raised at {quoted(*at)}")
    return "\n".join(lines)
