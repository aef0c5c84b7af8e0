"""Policies of steps and limits of runs, as numbers.

Numbers only. Each is a bound; the engine enforces them.
"""

from __future__ import annotations

from math import inf, isfinite
from sys import float_info
from typing import Any, TypeGuard

import attrs
from attrs import Attribute

from orchestra.eventclass import frozen
from orchestra.graph.calls.mistakes import explain_wrong_fields


def is_number(given: object) -> TypeGuard[float]:
    """Whether a value is a float, or an int of its range: not a bool, not NaN."""
    if not isinstance(given, int | float) or isinstance(given, bool):
        return False
    return abs(given) <= float_info.max or abs(given) == inf


def is_count(given: object) -> TypeGuard[int]:
    """Whether a value is an int, 1 or more: not a bool."""
    return isinstance(given, int) and not isinstance(given, bool) and given > 0


def _positive(instance: object, attribute: Attribute[Any], value: object) -> None:
    if not is_number(value):
        raise ValueError(f"{_field(instance, attribute, value)} must be a number")
    if not value > 0:
        raise ValueError(f"{_field(instance, attribute, value)} must be more than 0, or left out")


def _bound() -> float | None:
    return attrs.field(default=None, validator=attrs.validators.optional(_positive))


def _whole(instance: object, attribute: Attribute[Any], value: object) -> None:
    if not is_count(value):
        raise ValueError(f"{_field(instance, attribute, value)} must be a whole number, 1 or more")


def _count(default: int) -> int:
    return attrs.field(default=default, validator=_whole)


def _finite(instance: object, attribute: Attribute[Any], value: float) -> None:
    _positive(instance, attribute, value)
    if not isfinite(value):
        raise ValueError(f"{_field(instance, attribute, value)} is a bound; write a finite number")


def _field(instance: object, attribute: Attribute[Any], value: object) -> str:
    return f"{type(instance).__name__}({attribute.name}={value!r:.80}): {attribute.name}"


@explain_wrong_fields
@frozen(kw_only=True)
class Retry:
    """When a failed call is made again, and how long to wait before it.

    A call is repeated after an error whose attribute `retryable` is True, such as a
    `ModelError` that may succeed later; after an `ArmsFailedError` with such an error; after a
    late first chunk (`first_chunk_s`); and after errors of the classes in `on`. A call that has
    passed on output is never repeated, nor is a cancelled one.

    The wait before attempt n + 1 is random, from 0 to `delay_s * multiplier ** (n - 1)`, at
    most `delay_max_s` ("full jitter": calls that failed together are not repeated together).
    If the error has `retry_after_s`, that time is added. A wait that would not end before
    the step's `timeout_s` or the run's deadline is not started: the error is raised at
    once. All calls of an engine share the retry budget in `Limits`.
    """

    attempts_max: int = attrs.field()
    """Calls in total, including the first."""
    delay_s: float = attrs.field(default=0.5, validator=_finite)
    """The longest wait before the second attempt."""
    multiplier: float = attrs.field(default=2.0)
    """Factor between the longest waits before two attempts; 1 or more."""
    delay_max_s: float = attrs.field(default=30.0, validator=_finite)
    """The longest wait before any attempt, without `retry_after_s`."""
    retry_after_max_s: float = attrs.field(default=60.0, validator=_finite)
    """If a provider asks for a longer wait than this, the call is not repeated."""
    on: tuple[type[Exception], ...] = attrs.field(default=())
    """Errors of these classes are retried, whatever their `retryable` says.

    `TimeoutError` includes that of `trio.fail_after`."""

    @attempts_max.validator
    def _counts(self, _: Attribute[int], value: object) -> None:
        if not is_count(value):
            raise ValueError(
                f"Retry(attempts_max={value!r}): attempts_max must be the number of calls, 1 or "
                "more, including the first"
            )

    @multiplier.validator
    def _grows(self, _: Attribute[float], value: object) -> None:
        if not is_number(value) or value < 1 or not isfinite(value):
            raise ValueError(f"Retry(multiplier={value!r}): waits do not shrink; write 1 or more")

    @delay_max_s.validator
    def _caps(self, _: Attribute[float], value: float) -> None:
        if value < self.delay_s:
            raise ValueError(
                f"Retry(delay_s={self.delay_s!r}, delay_max_s={value!r}): the first wait is "
                "already over the longest; raise delay_max_s, or lower delay_s"
            )

    @on.validator
    def _errors(self, _: Attribute[Any], value: object) -> None:
        kinds = value if isinstance(value, tuple) else (value,)
        if not isinstance(value, tuple) or not all(map(_is_error, kinds)):
            meant = value.__name__ if isinstance(value, type) and _is_error(value) else "ValueError"
            raise ValueError(
                f"Retry(on={value!r}): on must be a tuple of classes of Exception, none of them a "
                f"cancellation; write on=({meant},)"
            )


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


@explain_wrong_fields
@frozen(kw_only=True)
class Policy:
    """How long a step may take, and how often it is tried; None is no limit.

    The time a step waits for its reader to take a chunk counts in `timeout_s` only: a
    slow client is not a slow provider.
    """

    timeout_s: float | None = _bound()
    """From the first call to the value or the last chunk, with all attempts and waits."""
    first_chunk_s: float | None = _bound()
    """From a call to its first chunk, for each attempt. For streams."""
    idle_s: float | None = _bound()
    """From one chunk to the next, after the first. For streams."""
    retry: Retry | None = attrs.field(default=None)
    """When a failed call is made again; None is never."""

    @retry.validator
    def _is_retry(self, _: Attribute[Any], value: object) -> None:
        if not isinstance(value, Retry | None):
            raise TypeError(f"Policy(retry={value!r}): write it as Retry(attempts_max=3)")


@explain_wrong_fields
@frozen(kw_only=True)
class Limits:
    """The bounds of every run of an engine.

    Retries are limited so that they do not amplify an outage. In any period of `t` seconds with
    `n` first calls under a `Retry`, an engine makes at most `retries_saved +
    retries_per_call * n + retries_per_s * t` retries over all of its runs. When none is left,
    the error is raised instead.
    """

    lane_chunks: int = _count(16)
    """Chunks that wait on one stream edge before its producer is held back."""
    window_chunks: int = _count(256)
    """Chunks of output that an attached reader may be behind before the run has to wait."""
    window_bytes: int = _count(64 * 1024)
    """The same limit in bytes; strings count as UTF-8, every other chunk as 64."""
    journal_events: int = _count(4096)
    """Events kept for readers that attach late; older ones are replaced by a snapshot."""
    held_chunks: int = _count(100_000)
    """Chunks that an arm of a race or fallback may produce before its commit."""
    held_bytes: int = _count(4 * 1024 * 1024)
    """The same limit in bytes: ten times the longest answers of today's models."""
    output_chunks: int = _count(1_000_000)
    """Chunks of a run's output, which is kept in full for the result."""
    output_bytes: int = _count(64 * 1024 * 1024)
    """The same limit in bytes."""
    each_items: int = _count(100_000)
    """Items of an `each` over a list, whose results are all kept; also pipelines run by a step."""
    pipelines_deep: int = _count(16)
    """How deep pipelines that steps run may be nested."""
    runs: int = _count(10_000)
    """Runs at the same time in one engine; one more is refused."""
    retries_per_call: float = attrs.field(default=0.2, validator=_finite)
    """Retries that each first call under a `Retry` adds to the engine's budget."""
    retries_per_s: float = attrs.field(default=1.0, validator=_finite)
    """Retries that each second adds, so that an engine with few calls can retry them."""
    retries_saved: int = _count(100)
    """The largest size of the budget, and its size at the start."""
    deadline_s: float | None = _bound()
    """How long a run may take if neither it nor its pipeline has a deadline."""
