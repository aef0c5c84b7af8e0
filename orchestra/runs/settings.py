"""How long runs are kept and how much of them, as one frozen value."""

from __future__ import annotations

from collections.abc import Container
from typing import ClassVar

import msgspec


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Settings whose numbers are bounds, and greater than 0.

    A struct, since the code of a class of attrs is made at each start.
    """

    _not_bounds: ClassVar[Container[str]] = ()

    def __post_init__(self) -> None:
        usuals = zip(self.__struct_fields__, self.__struct_defaults__, strict=True)
        for name, usual in usuals:
            value = getattr(self, name)
            if value is not usual and name not in self._not_bounds and not value > 0:
                raise ValueError(
                    f"{type(self).__name__}({name}={value!r}): a bound must be greater than 0; "
                    f"leave it out to have {usual!r}"
                )


class RunsSettings(Bounds, frozen=True, kw_only=True):
    """What is kept of runs that have ended, and how processes hear of each other's."""

    kept_s: float = 3600.0
    """How long a run that has ended is kept."""
    kept_bytes: int = 512 * 1024
    """What is kept of one run's events; of a longer one, its whole output and its last event."""
    kept_total_bytes: int = 64 * 1024 * 1024
    """What is kept of all runs where the state is this process's own. A shared state has its own
    `limit_bytes`, and what was used least goes first."""
    idempotency_s: float = 24 * 3600.0
    """How long an idempotency key stands for its run."""
    batch_s: float = 0.05
    """How long a record may wait for others, to be written with them."""
    heartbeat_s: float = 1.5
    """How often a process says that it is alive, where the state is shared."""
    dead_after_s: float = 5.0
    """Without a heartbeat for so long, a process counts as dead, and its runs have failed."""
    mail_s: float = 0.2
    """How often a process looks for what others ask of it."""
    publish_s: float = 0.1
    """How often the events of a run are published that somebody follows from elsewhere, and how
    often such a follower looks for them."""
    flush_s: float = 2.0
    """How long stopping may take to write what is not written yet."""
