"""The numbers a deployment runs by: limits of a run, and what stands around a step.

Numbers only. Each is a bound; the engine obeys them.
"""

from __future__ import annotations

from typing import Any

import attrs
from attrs import Attribute


def _positive(instance: object, attribute: Attribute[Any], value: float | None) -> None:
    if value is not None and not value > 0:
        name = f"{type(instance).__name__}({attribute.name}={value!r})"
        raise ValueError(f"{name}: {attribute.name} must be more than 0, or left out")


def _bound(default: float | None) -> float | None:
    return attrs.field(default=default, validator=_positive)


def _count(default: int) -> int:
    return attrs.field(default=default, validator=_positive)


@attrs.frozen(kw_only=True)
class Policy:
    """How long a step may take; None is no limit of its own.

    The time a step waits for its reader to take a chunk counts in `timeout_s` only: a
    slow client is not a slow provider.
    """

    timeout_s: float | None = _bound(None)
    """From the call to the value, or to the last chunk of the stream."""
    first_chunk_s: float | None = _bound(None)
    """From the call to the first chunk. For streams."""
    idle_s: float | None = _bound(None)
    """From one chunk to the next, once the first is there. For streams."""


@attrs.frozen(kw_only=True)
class Limits:
    """The bounds of every run of an engine."""

    lane_chunks: int = _count(16)
    """Chunks that wait on one stream edge before its producer is held back."""
    window_chunks: int = _count(256)
    """Chunks of output that an attached reader may be behind before the run is held back."""
    window_bytes: int = _count(64 * 1024)
    """The same in bytes, with strings as UTF-8; other chunks count 64 each."""
    journal_events: int = _count(4096)
    """Events that are kept for readers who come late; older ones become a snapshot."""
    held_chunks: int = _count(100_000)
    """Chunks that an arm of a race or fallback may say before it is committed to."""
    held_bytes: int = _count(4 * 1024 * 1024)
    """The same in bytes: room for the longest answers of today's models, ten times over."""
    output_chunks: int = _count(1_000_000)
    """Chunks of a run's output, which is kept whole for its result."""
    output_bytes: int = _count(64 * 1024 * 1024)
    """The same in bytes."""
    each_items: int = _count(100_000)
    """Items that one `each` over a list takes, since its result is kept whole."""
    runs: int = _count(10_000)
    """Runs in flight in one engine; one more is refused."""
    deadline_s: float | None = _bound(None)
    """How long a run may take, for runs that are given no deadline of their own."""
