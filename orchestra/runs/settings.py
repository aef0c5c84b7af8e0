"""How long runs are kept and how much of them, as one frozen value."""

from __future__ import annotations

from typing import Any

import attrs


def _positive(instance: RunsSettings, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value > 0:
        name = f"{type(instance).__name__}({attribute.name}={value!r})"
        raise ValueError(
            f"{name}: a bound must be greater than 0; leave it out to have {attribute.default!r}"
        )


def _some(default: float) -> float:
    return attrs.field(default=default, validator=_positive)


def _whole(default: int) -> int:
    return attrs.field(default=default, validator=_positive)


@attrs.frozen(kw_only=True)
class RunsSettings:
    """What is kept of runs that have ended, and how processes hear of each other's."""

    kept_s: float = _some(3600.0)
    """How long a run that has ended is kept."""
    kept_bytes: int = _whole(512 * 1024)
    """What is kept of one run's events; of a longer one, its whole output and its last event."""
    kept_total_bytes: int = _whole(64 * 1024 * 1024)
    """What is kept of all runs where the state is this process's own. A shared state has its own
    `limit_bytes`, and what was used least goes first."""
    idempotency_s: float = _some(24 * 3600.0)
    """How long an idempotency key stands for its run."""
    batch_s: float = _some(0.05)
    """How long a record may wait for others, to be written with them."""
    heartbeat_s: float = _some(1.5)
    """How often a process says that it is alive, where the state is shared."""
    dead_after_s: float = _some(5.0)
    """Without a heartbeat for so long, a process counts as dead, and its runs have failed."""
    mail_s: float = _some(0.2)
    """How often a process looks for what others ask of it."""
    publish_s: float = _some(0.1)
    """How often the events of a run are published that somebody follows from elsewhere, and how
    often such a follower looks for them."""
    flush_s: float = _some(2.0)
    """How long stopping may take to write what is not written yet."""
