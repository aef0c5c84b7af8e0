"""The present account: the caller, run and step for which models are called.

It is ambient, like a deadline. A task inherits both from the task that started it, so a policy
deep below a step reads either without passing it through all functions between.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Protocol

import trio

from orchestra.accounts import Caller, Usage
from orchestra.events import Note
from orchestra.protocols import Origin


class Account(Origin, Protocol):
    """The origin of a model call, and the recorder of its usage and events.

    Every step's context is one; `PRESENT` is the current one.
    """

    @property
    def run_key(self) -> object:
        """An object that all accounts of one run share, and that lives as long as the run."""

    def used(self, usage: Usage) -> None:
        """Add the usage of a call, unless it is `settled` already."""

    def record(self, note: type[Note], *fields: object) -> None:
        """Write an event into the run's journal; `fields` are the fields after its `step`."""

    def spawn(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a task beside the runs until the engine is closed; its errors are only logged."""


class NoAccount:
    """The account of calls outside runs: it has no owner, and records nothing."""

    caller = Caller()
    run_id = ""
    step = ""
    run_key: object = None

    def used(self, usage: Usage) -> None:
        """Forget it."""

    def record(self, note: type[Note], *fields: object) -> None:
        """Forget it."""

    def spawn(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        """Refuse: there is no engine to run the task in.

        Raises:
            RuntimeError: always.
        """
        del task
        raise RuntimeError(f"{name} needs a background task, and no engine is open here")


NOBODY: Account = NoAccount()
PRESENT: ContextVar[Account] = ContextVar("orchestra_account", default=NOBODY)
"""Set by the engine in the task of each step that takes a context."""


class JointAccount:
    """The account of a call that several tasks wait for."""

    @property
    @abstractmethod
    def until_s(self) -> float:
        """The latest time until which one of them waits."""

    @abstractmethod
    def queue(self) -> None:
        """Note that the call waits for its own caller's limits, for which others need not wait."""

    @abstractmethod
    def begin(self) -> None:
        """Note that its caller's limits have admitted it, or that there are none."""

    @abstractmethod
    def each_run(self, note: Callable[[object], None]) -> None:
        """Call `note` once with each run that waits for the call, now or later."""


def left_s() -> float:
    """Seconds left for the answer to a call: until the deadline of the task, or of all tasks."""
    account, until_s = PRESENT.get(), trio.current_effective_deadline()
    if isinstance(account, JointAccount):
        until_s = min(until_s, account.until_s)
    return until_s - trio.current_time()
