"""A batch: one run for each of many rows, a few at a time, and one result line per ended row.

Rules of the file: rows are read when they are needed, so there may be more of them than fit in
memory. A row's line is written after its last attempt. If a batch is stopped, rows in progress get
no line and are run again by the next batch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from math import inf
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import trio

from orchestra.accounts import Caller, Usage, add_to
from orchestra.batch.ledger import Ended, Row, digest_of, line_of
from orchestra.batch.outage import Outage, is_refusal
from orchestra.batch.results import Results, open_results
from orchestra.engine.engine import Engine
from orchestra.engine.run import Run
from orchestra.errors import (
    ArmsFailedError,
    BatchError,
    BudgetHeldError,
    InputError,
    RunCancelledError,
)
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.rules.policy import Retry
from orchestra.groups import groupless_nursery
from orchestra.messages import describe
from orchestra.policies.health.permanent import is_permanent
from orchestra.policies.retry import is_retryable, next_delay_s, retry_after_s
from orchestra.tags import NO_TAGS, Tags, fault_of

NOBODY = Caller()
RETRY = Retry(attempts_max=5, delay_s=1.0, retry_after_max_s=3600.0)
"""A batch has no user who waits: it rests for an hour where a run would fail after a minute."""
HELD_S = 10.0
"""How long a row waits at most for the end of others, which may release what they hold before."""
OUTAGE_S = 180.0
"""An outage of two minutes ends within it: a breaker's probes are up to a minute apart."""
_NOTHING = Usage()
_Attempt: TypeAlias = tuple[Run | None, object, Exception | None]


@attrs.frozen(kw_only=True)
class BatchRules:
    """The limits and the retries of a batch."""

    at_once: int = attrs.field(default=8, validator=attrs.validators.ge(1))
    """Rows in progress at the same time."""
    failures_max: int = attrs.field(default=100, validator=attrs.validators.ge(0))
    """How many rows may fail; one more stops the batch."""
    retry: Retry = RETRY
    """When the run of a row is retried, in addition to the retries within its pipeline.

    While a provider asks all callers to wait (`Retry-After`), no row is run; if it asks for more
    than `retry_after_max_s`, the batch stops.
    """
    outage_max_s: float = attrs.field(default=OUTAGE_S, validator=attrs.validators.ge(0))
    """The longest outage that rows wait for, in seconds; a longer one stops the batch.

    It begins when the breaker of a model refuses a row, and ends with an answer. In an outage, no
    attempt at a row counts, unless it has cost something.
    """


@attrs.define
class Progress:
    """The progress of a batch; `done_before` counts rows that had a result when it started."""

    done_before: int = 0
    finished: int = 0
    failed: int = 0
    last_failure: str = ""
    """The row that failed last, and why."""
    usage: Usage = _NOTHING
    """The usage of all rows that have ended in this batch."""
    usage_by_model: dict[str, Usage] = attrs.field(factory=dict)
    """The part of each model of the `usage`."""
    rests_until_s: float = -inf
    """No row is started before this time of Trio's clock: an error had a `retry_after_s`."""

    @property
    def ended(self) -> int:
        """How many rows have ended, in this batch or before it."""
        return self.done_before + self.finished + self.failed


class Batch:
    """Many rows for one pipeline; `run` runs those without a result in the file.

    `rows` are read when they are needed, each once; their ids must be unique. Each run has these
    `tags`: see `Engine.start`. `draw` returns random numbers from 0 to 1, for the jitter of
    retries.

    Raises:
        InputError: the tags exceed their bounds.
    """

    def __init__(
        self,
        engine: Engine,
        pipeline: Pipeline[..., Any],
        rows: Iterable[Row],
        results: Path,
        *,
        rules: BatchRules | None = None,
        caller: Caller = NOBODY,
        tags: Tags = NO_TAGS,
        draw: Callable[[], float] = random.random,
    ) -> None:
        if fault := fault_of(tags):  # else every row would fail
            raise InputError(f"Batch(..., tags=...): {fault}")
        self.rules = rules or BatchRules()
        self.progress = Progress()
        self._engine = engine
        self._pipeline = pipeline
        self._rows = rows
        self._path = results
        self._caller = caller
        self._tags = tags
        self._draw = draw
        self._stopping = trio.Event()
        self._held = trio.lowlevel.ParkingLot()
        self._resting = trio.lowlevel.ParkingLot()
        self._asked_until_s = -inf  # what providers asked for, without breakers
        self._outage = Outage(self.rules.outage_max_s)
        self._active = 0
        self._error: BatchError | None = None
        self._scope = trio.CancelScope()

    def stop(self, within_s: float) -> None:
        """Start no more rows; cancel those still in progress after `within_s`."""
        self._stop_soon()
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + within_s)

    def _stop_soon(self) -> None:
        self._stopping.set()
        self._held.unpark_all()
        self._resting.unpark_all()

    async def run(self) -> Progress:
        """Run all rows that have no result yet.

        To continue after a stop or a cancellation, run another batch with the same file. A row
        that failed has a line with its error, and the next batch runs it again; a row that was
        cancelled has no line.

        Raises:
            BatchError: an error that would fail every row, too many failures or a long outage
                stopped the batch; or its file cannot be written.
            CheckError: the pipeline has problems.
            InputError: `at_once` is more than the engine's `Limits` allow.
            LimitExceededError: other runs of the engine leave no room for those of the batch.
            RunCancelledError: one of the runs was cancelled by somebody else.
        """
        plan = self._engine.plan(self._pipeline)
        most = self._engine.shared.limits.runs
        if self.rules.at_once > most:
            raise InputError(
                f"at_once={self.rules.at_once} is more than Limits(runs={most}) of this engine"
            )
        with open_results(self._path) as results:
            todo = self._todo(results)
            with self._scope:
                async with groupless_nursery() as nursery:
                    for _ in range(self.rules.at_once):
                        nursery.start_soon(self._work, todo, results, name=plan.pipeline.name)
        if self._error is not None:
            raise self._error
        return self.progress

    def _todo(self, results: Results) -> Iterator[tuple[Row, str]]:
        """The rows that have no result yet, each with its digest."""
        for row in self._rows:
            digest = digest_of(self._pipeline.name, row.inputs)
            if results.finished.get(row.id) == digest:
                self.progress.done_before += 1
            else:
                yield row, digest

    async def _work(self, todo: Iterator[tuple[Row, str]], results: Results) -> None:
        while not await self._stops_within():
            found = next(todo, None)
            if found is None:
                return
            row, digest = found
            ended = await self._ended(row)
            if ended is not None:
                try:
                    results.append(line_of(row.id, digest, ended))
                except BatchError as error:  # no other row could be written either
                    self._error = self._error or error
                    self._scope.cancel()
                    return
                self._count(row, ended)

    async def _ended(self, row: Row) -> Ended | None:
        """Run a row with its retries; how it ended, or None if the batch was stopped first."""
        self._active += 1
        try:
            return await self._tried(row)
        finally:
            self._active -= 1
            self._held.unpark()

    async def _tried(self, row: Row) -> Ended | None:
        began_s, spent, attempt = trio.current_time(), _Spent(), 0
        while True:
            attempt += 1
            run, result, error = await self._attempt(row, spent)
            if error is not None and self._ends_all(row, error):
                return None
            held = self._is_held_by_others(error)
            free = not _has_cost(run)
            waits = self._is_in_outage(row, run, error) and free
            if waits or (held and free):
                attempt -= 1
            if held and attempt < self.rules.retry.attempts_max:
                await self._other_ends()
                if self._stopping.is_set():
                    return None
                continue
            delay_s = None if error is None else self._delay_s(attempt, error, waits=waits)
            if delay_s is None:
                return Ended(
                    run_id="" if run is None else run.id,
                    attempts=attempt,
                    duration_s=trio.current_time() - began_s,
                    usage=spent.usage,
                    usage_by_model=dict(sorted(spent.by_model.items())),
                    result=result,
                    error=error,
                    cut=run is not None and run.cut,
                )
            if await self._stops_within(trio.current_time() + delay_s):
                return None

    def _is_in_outage(self, row: Row, run: Run | None, error: Exception | None) -> bool:
        """Whether models are away after this attempt; stops the batch if it is for too long."""
        if run is None:
            return False  # its inputs do not fit, so nothing was called
        now_s, before = trio.current_time(), self._outage.since_s
        retryable = error is not None and is_retryable(self.rules.retry, error)
        if not self._outage.continues(error, retryable=retryable, now_s=now_s):
            if before is not None and self._outage.since_s is None:  # no need to wait for probes
                self.progress.rests_until_s = self._asked_until_s
                self._resting.unpark_all()
            return False
        if error is not None and self._outage.too_long(error, now_s):
            self._end(
                f"no model has answered for {now_s - (self._outage.since_s or 0):.0f} s, and "
                f"outage_max_s={self._outage.lasts_max_s:g} allows no more; another batch runs the "
                "rows that have no result yet; the last error was that of row",
                row,
                self._outage.error or error,
            )
        return True

    def _is_held_by_others(self, error: Exception | None) -> bool:
        """Whether money that other rows may hold kept this row from running."""
        return _is_held(error) and self._active > 1

    async def _other_ends(self) -> None:
        """Wait until another row has ended, or the batch stops; for `HELD_S` at most.

        Each end lets one waiting row try again, besides the next row of the same worker: so the
        number of active rows grows as far as there is room. The last active row does not wait here.
        """
        self._active -= 1
        try:
            with trio.move_on_after(HELD_S):
                await self._held.park()
        finally:
            self._active += 1

    async def _stops_within(self, until_s: float = -inf) -> bool:
        """Wait until `until_s`, and as long as a provider asked for; whether the batch stopped."""
        while not self._stopping.is_set():
            at_s = max(until_s, self.progress.rests_until_s)
            with trio.move_on_at(at_s) as scope:
                await self._resting.park()
            if scope.cancelled_caught and at_s >= self.progress.rests_until_s:
                break  # else a provider asked for a longer wait meanwhile, or an outage ended
        return self._stopping.is_set()

    async def _attempt(self, row: Row, spent: _Spent) -> _Attempt:
        """Run a row once: its run, result and error. Cancelling this cancels the run."""
        try:
            run = self._engine.start(
                self._pipeline, row.inputs, caller=self._caller, tags=self._tags
            )
        except InputError as error:
            await trio.lowlevel.checkpoint()
            return None, None, error
        try:
            return run, await run.result(), None
        except RunCancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a step raises
            return run, None, error
        finally:
            run.cancel("its batch was stopped")  # does nothing if the run has ended
            spent.add(run)

    def _delay_s(self, attempt: int, error: Exception, *, waits: bool) -> float | None:
        """The delay before the next attempt at a row; None if there is none.

        A row that `waits` for the end of an outage always has a next attempt.
        """
        every = not _is_held(error)  # a Retry-After holds for all rows
        if every and is_retryable(self.rules.retry, error):
            until_s = trio.current_time() + retry_after_s(error)
            self.progress.rests_until_s = max(self.progress.rests_until_s, until_s)
            if not is_refusal(error):
                self._asked_until_s = max(self._asked_until_s, until_s)
        if waits:
            return self._draw() * self.rules.retry.delay_s  # and as long as all rows rest
        return next_delay_s(self.rules.retry, attempt, error, self._draw(), inf)

    def _count(self, row: Row, ended: Ended) -> None:
        if ended.usage is not None:
            self.progress.usage += ended.usage
        for model, usage in ended.usage_by_model.items():
            add_to(self.progress.usage_by_model, model, usage)
        if ended.error is None:
            self.progress.finished += 1
            return
        self.progress.failed += 1
        self.progress.last_failure = f"{row.id!r}: {describe(ended.error)}"
        if self.progress.failed > self.rules.failures_max:
            self._end(
                f"{self.progress.failed} rows have failed, and failures_max="
                f"{self.rules.failures_max} allows no more; the last was",
                row,
                ended.error,
            )

    def _ends_all(self, row: Row, error: Exception) -> bool:
        """Stop the batch if the error would fail every row; whether it does."""
        rule = self.rules.retry
        too_long = is_retryable(rule, error) and retry_after_s(error) > rule.retry_after_max_s
        if not too_long and not is_permanent(error, within_run=False):
            return False
        self._end("every row would fail with the error of this one:", row, error)
        return True

    def _end(self, why: str, row: Row, error: Exception) -> None:
        """Start no more rows; those in progress may end."""
        self._stop_soon()
        if self._error is None:
            self._error = BatchError(f"{why} {row.id!r}: {describe(error)}")
            self._error.__cause__ = error


@attrs.define
class _Spent:
    """The usage of the attempts at a row that have ended; in an outage, there may be very many."""

    usage: Usage | None = None
    by_model: dict[str, Usage] = attrs.field(factory=dict)

    def add(self, run: Run) -> None:
        if run.usage is not None:
            self.usage = run.usage if self.usage is None else self.usage + run.usage
        for model, usage in run.usage_by_model.items():
            add_to(self.by_model, model, usage)


def _is_held(error: BaseException | None) -> bool:
    """Whether only money that others hold kept a row, or each of its arms, from running."""
    if isinstance(error, ArmsFailedError):
        return bool(error.errors) and all(map(_is_held, error.errors.values()))
    return isinstance(error, BudgetHeldError)


def _has_cost(run: Run | None) -> bool:
    """Whether an attempt has cost something, so that the number of attempts has to be bounded."""
    usage = None if run is None else run.usage
    return usage is not None and bool(usage.cost_nanodollars or usage.unpriced_calls)
