"""Metrics of runs, of model calls, and of HTTP requests.

Runs are counted from the events of their journals, as these are written. A model call is counted
when it ends: it may belong to several runs, to a run that ended before it, or to none. So may what
budgets report, which is counted as they report it.

Rules of the file: no work per token; per step, only an addition.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from orchestra.accounts import Certainty, Usage
from orchestra.events import (
    ArmCommitted,
    ArmFailed,
    ArmRestarted,
    Event,
    RunCancelled,
    RunFailed,
    RunFinished,
    StepCached,
    StepCoalesced,
    StepFailed,
    StepFinished,
    StepRetried,
    StepRouted,
    Terminal,
    ToolFailed,
    ToolFinished,
)
from orchestra.observe import names
from orchestra.observe.requests import known_method, scheme
from orchestra.observe.tally import Histogram, Tally
from orchestra.policies.money.ledger import Reached, Refusal
from orchestra.policies.observed import CallEnded, ObservesCalls

_PLACE = re.compile(r"\[[^\]]*\]")


class Metrics(ObservesCalls):
    """Counts the events of one process, in `tally`. It neither blocks nor raises."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.tally = Tally()
        self._names = names.convention(environ)
        self._pipelines: dict[str, PipelineMetrics] = {}
        self._calls: dict[tuple[str, str, str, str, str], CallMetrics] = {}
        self._answers: dict[tuple[str, str, str, int], Histogram] = {}

    def observe(self, pipeline: str) -> Callable[[Event], None]:
        """A function that counts the events of a run of this pipeline."""
        found = self._pipelines.get(pipeline)
        if found is None:
            found = self._pipelines[pipeline] = PipelineMetrics(self.tally, pipeline)
        return found.count_event

    def called(self, ended: CallEnded) -> None:
        """Count a model call that has ended."""
        key = ended.model, ended.provider, ended.request_model, ended.operation, ended.error
        found = self._calls.get(key)
        if found is None:
            found = self._calls[key] = CallMetrics(self.tally, self._names, ended)
        found.ended(ended)

    def served(
        self, model: str, operation: str, duration_s: float, first_s: float | None, error: str
    ) -> None:
        """Count a run of a model or route for a client that asked for it by its name, `model`.

        `first_s` is when its first chunk came. `error` is as in `CallEnded`.
        """
        of_model = operation, model
        self.tally.histogram(names.SERVED_DURATION, (*of_model, error)).observe(duration_s)
        if first_s is not None and not error:
            self.tally.histogram(names.SERVED_FIRST_TOKEN, of_model).observe(first_s)

    def on_budget(self, told: Reached | Refusal) -> None:
        """Count a threshold of a budget that was reached, or a refusal."""
        if isinstance(told, Reached):
            self.tally.count(names.BUDGET_THRESHOLDS, (str(told.percent),))
        else:
            labels = told.budget.kind, told.budget.period.value
            self.tally.count(names.BUDGET_REFUSALS, labels)

    def answered(
        self, asked: Mapping[str, Any], route: str, status: int, duration_s: float
    ) -> None:
        """Count a request: `asked` is its ASGI scope, `route` the route it matched, or ""."""
        key = asked.get("method", "GET"), asked["scheme"], route, status
        found = self._answers.get(key)
        if found is None:
            method = known_method(key[0])
            labels = method, scheme(key[1]), route, str(status)
            found = self.tally.histogram(names.HTTP_DURATION, labels)
            if method == key[0]:
                self._answers[key] = found
        found.observe(duration_s)


class PipelineMetrics:
    """Counts the runs of one pipeline."""

    def __init__(self, tally: Tally, pipeline: str) -> None:
        self.tally = tally
        self.pipeline = pipeline
        self.steps: dict[tuple[str, str], Histogram] = {}
        self.ends: dict[str, Histogram] = {}

    def count_event(self, event: Event) -> None:
        """Count an event of a run."""
        act = _ACTS.get(type(event))
        if act is not None:
            act(self, event)

    def count(self, family: names.Family, *labels: str) -> None:
        """Add one to a counter whose first label is the pipeline."""
        self.tally.count(family, (self.pipeline, *labels))


def _finished(runs: PipelineMetrics, event: StepFinished) -> None:
    _step_times(runs, names.STEP_DURATION, event.step).observe(event.duration_s)
    if event.first_chunk_s is not None:  # or each step that gives a value had series of zeros
        _step_times(runs, names.STEP_FIRST_CHUNK, event.step).observe(event.first_chunk_s)


def _step_times(runs: PipelineMetrics, family: names.Family, step: str) -> Histogram:
    found = runs.steps.get((family.name, step))
    if found is None:
        found = runs.tally.histogram(family, (runs.pipeline, step_label(step)))
        if "[" not in step:  # an `each` may have any number of items
            runs.steps[family.name, step] = found
    return found


def _failed(runs: PipelineMetrics, event: StepFailed | StepRetried) -> None:
    family = names.STEP_FAILURES if isinstance(event, StepFailed) else names.STEP_RETRIES
    runs.count(family, step_label(event.step), event.error)


def _tool_failed(runs: PipelineMetrics, event: ToolFailed) -> None:
    runs.count(names.TOOL_FAILURES, step_label(event.step), event.tool, event.error)


def _tool_finished(runs: PipelineMetrics, event: ToolFinished) -> None:
    labels = runs.pipeline, step_label(event.step), event.tool
    runs.tally.histogram(names.TOOL_DURATION, labels).observe(event.duration_s)


def _arm_chosen(runs: PipelineMetrics, event: ArmCommitted | ArmRestarted) -> None:
    family = names.ARM_COMMITS if isinstance(event, ArmCommitted) else names.ARM_RESTARTS
    runs.count(family, step_label(event.step), step_label(event.arm))


def _arm_failed(runs: PipelineMetrics, event: ArmFailed) -> None:
    runs.count(names.ARM_FAILURES, step_label(event.step), step_label(event.arm), event.error)


def _spared(runs: PipelineMetrics, event: StepCached | StepCoalesced) -> None:
    family = names.CACHE_HITS if isinstance(event, StepCached) else names.COALESCED
    runs.tally.count(family, (event.model,))


def _routed(runs: PipelineMetrics, event: StepRouted) -> None:
    runs.tally.count(names.ROUTED, (event.route, event.model))


def _ended(runs: PipelineMetrics, event: Terminal) -> None:
    status = event.type.removeprefix("run.")
    found = runs.ends.get(status)
    if found is None:
        found = runs.tally.histogram(names.RUN_DURATION, (runs.pipeline, status))
        runs.ends[status] = found
    found.observe(event.at_s)
    if isinstance(event, RunFailed):
        runs.count(names.RUN_FAILURES, event.error)
    if event.usage is not None and event.usage.cost_nanodollars:
        runs.tally.count(names.RUN_COST, (runs.pipeline,), event.usage.cost_nanodollars)


_ACTS: Mapping[type[Event], Callable[[PipelineMetrics, Any], None]] = {
    StepFinished: _finished,
    StepFailed: _failed,
    StepRetried: _failed,
    StepCached: _spared,
    StepCoalesced: _spared,
    StepRouted: _routed,
    ToolFinished: _tool_finished,
    ToolFailed: _tool_failed,
    ArmCommitted: _arm_chosen,
    ArmFailed: _arm_failed,
    ArmRestarted: _arm_chosen,
    RunFinished: _ended,
    RunFailed: _ended,
    RunCancelled: _ended,
}


class CallMetrics:
    """Counts the calls of one model that end in one way."""

    def __init__(self, tally: Tally, known: names.Convention, ended: CallEnded) -> None:
        self._tally = tally
        self._names = known
        provider = names.PROVIDERS.get(ended.provider, ended.provider)
        self._labels = ended.operation, provider, ended.request_model, ended.model
        timed = *self._labels, ended.error
        self._duration = tally.histogram(known.duration, timed)
        self._first_chunk = partial(tally.histogram, known.first_chunk, timed)

    def ended(self, ended: CallEnded) -> None:
        """Count a call that has ended."""
        self._duration.observe(ended.duration_s)
        if ended.first_chunk_s is not None:
            self._first_chunk().observe(ended.first_chunk_s)
        if ended.usage is not None:
            self._used(ended.model, ended.usage)

    def _used(self, model: str, usage: Usage) -> None:
        if usage.cost_nanodollars:
            self._tally.count(names.MODEL_COST, (model,), usage.cost_nanodollars)
        if usage.unpriced_calls:
            self._tally.count(names.UNPRICED, (model,), usage.unpriced_calls)
        if usage.certainty is not Certainty.ESTIMATED:  # as the conventions require
            self._observe(usage.input_tokens, self._names.each_input, "input")
            self._observe(usage.output_tokens, self._names.each_output, "output")
            for field, family in self._names.sums.items():
                if amount := getattr(usage, field):
                    self._tally.count(family, self._labels, amount)

    def _observe(self, tokens: int, family: names.Family, kind: str) -> None:
        labels = (*self._labels, kind) if self._names.token_type else self._labels
        self._tally.histogram(family, labels).observe(tokens)


def step_label(step: str) -> str:
    """A step's path as a label: without the indexes of items, so that all share one series."""
    return _PLACE.sub("[*]", step) if "[" in step else step
