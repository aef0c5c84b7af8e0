"""How long runs are kept and how much of them, as one frozen value."""

from __future__ import annotations

from collections.abc import Container

import attrs

from orchestra.eventclass import frozen


def check_bounds(settings: attrs.AttrsInstance, *, besides: Container[str] = ()) -> None:
    """Check that each number that was given is over 0, except those named in `besides`.

    Raises:
        ValueError: one is not.
    """
    for field in attrs.fields(type(settings)):
        value = getattr(settings, field.name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and field.name not in besides and not value > 0:
            raise ValueError(
                f"{type(settings).__name__}({field.name}={value!r}): a bound must be greater than "
                f"0; leave it out to have {field.default!r}"
            )


@frozen(kw_only=True)
class RunsSettings:
    """Limits of stored runs, and settings of following the runs of other processes."""

    kept_s: float = 3600.0
    """How long a run that has ended is kept."""
    kept_bytes: int = 512 * 1024
    """The most bytes of one run's events; of more, the whole output and the last event are kept."""
    kept_total_bytes: int = 64 * 1024 * 1024
    """The most bytes of all runs if the state is this process's own. A shared state has its own
    `limit_bytes`, and what was used least goes first."""
    idempotency_s: float = 24 * 3600.0
    """How long an idempotency key stands for its run."""
    batch_s: float = 0.05
    """How long a record may wait for others, to be written with them."""
    heartbeat_s: float = 1.5
    """How often a process says that it is alive, where the state is shared."""
    dead_after_s: float = 5.0
    """Without a heartbeat for so long, a process counts as dead, and its runs have failed."""
    inbox_s: float = 0.2
    """How often a process reads its inbox, where others' requests are."""
    publish_s: float = 0.1
    """How often the events of a run are published that somebody follows from elsewhere, and how
    often such a follower looks for them."""
    flush_s: float = 2.0
    """How long stopping may take to write what is not written yet."""

    def __attrs_post_init__(self) -> None:
        check_bounds(self)
