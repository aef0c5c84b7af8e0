"""Metrics: what the events of runs, the calls of models and the answers of a server add up to.

Runs are a fold over their journals, read as they are written. A model's call is told where it
ends: it may be part of several runs, of one that has ended before it, or of none.

Rules of the file: nothing is done for a token, and what is done for a step is an addition.
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
    BudgetReached,
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
from orchestra.policies.observed import CallEnded

_PLACE = re.compile(r"\[[^\]]*\]")


class Metrics:
    """What one process has counted, in `tally`. It neither waits nor raises."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.tally = Tally()
        self._names = names.names(environ)
        self._pipelines: dict[str, OfPipeline] = {}
        self._calls: dict[tuple[str, str, str, bool, str], OfCall] = {}
        self._answers: dict[tuple[str, str, str, int], Histogram] = {}

    def observe(self, pipeline: str) -> Callable[[Event], None]:
        """Who counts the events of a run of this pipeline."""
        found = self._pipelines.get(pipeline)
        if found is None:
            found = self._pipelines[pipeline] = OfPipeline(self.tally, pipeline)
        return found.saw

    def called(self, ended: CallEnded) -> None:
        """Count a call of a model."""
        key = ended.model, ended.provider, ended.request_model, ended.embeds, ended.error
        found = self._calls.get(key)
        if found is None:
            found = self._calls[key] = OfCall(self.tally, self._names, ended)
        found.ended(ended)

    def answered(
        self, asked: Mapping[str, Any], route: str, status: int, duration_s: float
    ) -> None:
        """Count a request of this ASGI scope; `route` is what it matched, "" where nothing did."""
        key = asked.get("method", "GET"), asked["scheme"], route, status
        found = self._answers.get(key)
        if found is None:
            method = known_method(key[0])
            labels = method, scheme(key[1]), route, str(status)
            found = self.tally.histogram(names.HTTP_DURATION, labels)
            if method == key[0]:
                self._answers[key] = found
        found.observe(duration_s)


class OfPipeline:
    """The runs of one pipeline."""

    def __init__(self, tally: Tally, pipeline: str) -> None:
        self.tally = tally
        self.pipeline = pipeline
        self.steps: dict[str, tuple[Histogram, Histogram]] = {}
        self.ends: dict[str, Histogram] = {}

    def saw(self, event: Event) -> None:
        """Count an event."""
        act = _ACTS.get(type(event))
        if act is not None:
            act(self, event)

    def count(self, family: names.Family, *labels: str) -> None:
        """Count one that is the pipeline's own."""
        self.tally.count(family, (self.pipeline, *labels))


def _finished(runs: OfPipeline, event: StepFinished) -> None:
    found = runs.steps.get(event.step)
    if found is None:
        labels = runs.pipeline, place(event.step)
        duration = runs.tally.histogram(names.STEP_DURATION, labels)
        found = duration, runs.tally.histogram(names.STEP_FIRST_CHUNK, labels)
        if "[" not in event.step:  # of those there may be any number
            runs.steps[event.step] = found
    found[0].observe(event.duration_s)
    if event.first_chunk_s is not None:
        found[1].observe(event.first_chunk_s)


def _failed(runs: OfPipeline, event: StepFailed | StepRetried) -> None:
    family = names.STEP_FAILURES if isinstance(event, StepFailed) else names.STEP_RETRIES
    runs.count(family, place(event.step), event.error)


def _tool_failed(runs: OfPipeline, event: ToolFailed) -> None:
    runs.count(names.TOOL_FAILURES, place(event.step), event.tool, event.error)


def _tool_finished(runs: OfPipeline, event: ToolFinished) -> None:
    labels = runs.pipeline, place(event.step), event.tool
    runs.tally.histogram(names.TOOL_DURATION, labels).observe(event.duration_s)


def _arm_chosen(runs: OfPipeline, event: ArmCommitted | ArmRestarted) -> None:
    family = names.ARM_COMMITS if isinstance(event, ArmCommitted) else names.ARM_RESTARTS
    runs.count(family, place(event.step), place(event.arm))


def _arm_failed(runs: OfPipeline, event: ArmFailed) -> None:
    runs.count(names.ARM_FAILURES, place(event.step), place(event.arm), event.error)


def _spared(runs: OfPipeline, event: StepCached | StepCoalesced) -> None:
    family = names.CACHE_HITS if isinstance(event, StepCached) else names.COALESCED
    runs.tally.count(family, (event.model,))


def _routed(runs: OfPipeline, event: StepRouted) -> None:
    runs.tally.count(names.ROUTED, (event.route, event.model))


def _budget(runs: OfPipeline, event: BudgetReached) -> None:
    runs.tally.count(names.BUDGET_THRESHOLDS, (str(event.percent),))


def _ended(runs: OfPipeline, event: Terminal) -> None:
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


_ACTS: Mapping[type[Event], Callable[[OfPipeline, Any], None]] = {
    StepFinished: _finished,
    StepFailed: _failed,
    StepRetried: _failed,
    StepCached: _spared,
    StepCoalesced: _spared,
    StepRouted: _routed,
    ToolFinished: _tool_finished,
    ToolFailed: _tool_failed,
    BudgetReached: _budget,
    ArmCommitted: _arm_chosen,
    ArmFailed: _arm_failed,
    ArmRestarted: _arm_chosen,
    RunFinished: _ended,
    RunFailed: _ended,
    RunCancelled: _ended,
}


class OfCall:
    """The calls of one model that end in one way."""

    def __init__(self, tally: Tally, known: names.CallNames, ended: CallEnded) -> None:
        self._tally = tally
        self._names = known
        operation = "embeddings" if ended.embeds else "chat"
        provider = names.PROVIDERS.get(ended.provider, ended.provider)
        self._labels = operation, provider, ended.request_model, ended.model
        timed = *self._labels, ended.error
        self._duration = tally.histogram(known.duration, timed)
        self._first_chunk = partial(tally.histogram, known.first_chunk, timed)

    def ended(self, ended: CallEnded) -> None:
        """Count one."""
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
        if usage.certainty is not Certainty.ESTIMATED:  # as the conventions want it
            self._read(usage.input_tokens, self._names.each_input, "input")
            self._read(usage.output_tokens, self._names.each_output, "output")
            for field, family in self._names.sums.items():
                if amount := getattr(usage, field):
                    self._tally.count(family, self._labels, amount)

    def _read(self, tokens: int, family: names.Family, kind: str) -> None:
        labels = (*self._labels, kind) if self._names.token_type else self._labels
        self._tally.histogram(family, labels).observe(tokens)


def place(step: str) -> str:
    """Where a step is in its pipeline: one of a row, for all of them."""
    return _PLACE.sub("[*]", step) if "[" in step else step
