"""The current account: the caller, run and step on whose behalf models are called.

It is ambient, like a deadline: a task inherits it from the task that started it. So a policy deep
below a step can read it, without an argument in every function between them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Protocol

import attrs
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

    def used(self, usage: Usage, model: str = "") -> None:
        """Add the usage of a call of this model, "" if unknown; unless it is `settled` already."""

    def record(self, note: type[Note], *fields: object) -> None:
        """Write an event into the run's journal; `fields` are the fields after its `step`."""

    def spawn(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a task beside the runs until the engine is closed; its errors are only logged."""


@attrs.define(eq=False)
class Attempt:
    """One attempt of a step that has a `Retry`: what it leaves for the next, and has from earlier.

    Only code that a step calls itself knows what these objects are.
    """

    earlier: list[object] = attrs.field(factory=list)
    """What earlier attempts have left, and this one has not taken."""
    left: list[object] = attrs.field(factory=list)
    """What this attempt leaves."""

    def next(self) -> Attempt:
        """The attempt after this one."""
        return Attempt([*self.left, *self.earlier])


class NoAccount:
    """The account of calls outside runs: it has no owner, and records nothing."""

    caller = Caller()
    run_id = ""
    step = ""
    run_key: object = None

    def used(self, usage: Usage, model: str = "") -> None:
        """Ignore the usage."""

    def record(self, note: type[Note], *fields: object) -> None:
        """Ignore the event."""

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
        """The latest deadline of the waiting tasks."""

    @abstractmethod
    def queue(self) -> None:
        """Note that the call is queued by the limits of the caller that started it.

        Other callers need not wait for these limits.
        """

    @abstractmethod
    def begin(self) -> None:
        """Note that the limits of the caller that started it admitted the call, or it has none."""

    @abstractmethod
    def each_run(self, note: Callable[[object], None]) -> None:
        """Call `note` once with the key of each run that waits for the call, now or later."""


def left_s() -> float:
    """Seconds left for the answer to a call, until the task's deadline.

    For a shared call, it is the earlier of this deadline and the latest of the waiting tasks'.
    """
    account, until_s = PRESENT.get(), trio.current_effective_deadline()
    if isinstance(account, JointAccount):
        until_s = min(until_s, account.until_s)
    return until_s - trio.current_time()
