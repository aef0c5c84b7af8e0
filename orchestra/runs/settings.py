"""The settings of stored runs and of following runs across processes, as one frozen value."""

from __future__ import annotations

from collections.abc import Container

import attrs

from orchestra.eventclass import frozen
from orchestra.graph.rules.policy import is_number


def check_bounds(settings: attrs.AttrsInstance, *, besides: Container[str] = ()) -> None:
    """Check that all bounds in `settings` are numbers over 0, except the fields in `besides`.

    A bound is a field whose default is a number, or None, which it may then be.

    Raises:
        ValueError: a bound is not.
    """
    for field in attrs.fields(type(settings)):
        value = getattr(settings, field.name)
        is_bound = field.default is None or is_number(field.default)
        if not is_bound or field.name in besides or value is field.default:
            continue
        if not is_number(value) or value <= 0:
            raise ValueError(
                f"{type(settings).__name__}({field.name}={value!r}): a bound must be a number "
                f"greater than 0; leave it out for the default, {field.default!r}"
            )


@frozen(kw_only=True)
class RunsSettings:
    """Limits of stored runs, and settings of following the runs of other processes."""

    kept_s: float = 3600.0
    """How long an ended run is kept."""
    kept_bytes: int = 512 * 1024
    """The most bytes of one run's events. If there are more, only the whole output and the last
    event are kept, or the last event alone."""
    kept_total_bytes: int = 64 * 1024 * 1024
    """The most bytes of all runs if this process has its own state. A shared state has a limit of
    its own, `limit_bytes`, beyond which the least used entries go first."""
    idempotency_s: float = 24 * 3600.0
    """How long an idempotency key stands for its run."""
    batch_s: float = 0.05
    """How long a record may be delayed, to be written in a batch with others."""
    heartbeat_s: float = 1.5
    """The interval between the heartbeats of a process in a shared state."""
    dead_after_s: float = 5.0
    """A process without a heartbeat for this long counts as dead, and its runs as failed."""
    inbox_s: float = 0.2
    """The interval at which a process reads its inbox of other processes' requests."""
    publish_s: float = 0.1
    """The interval at which a run that other processes follow is published, and at which those
    followers look for its events."""
    flush_s: float = 2.0
    """How long stopping may take to write records that are not written yet."""

    def __attrs_post_init__(self) -> None:
        check_bounds(self)
