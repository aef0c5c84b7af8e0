"""The present account: on whose behalf models are called here.

Ambient, like a deadline. A task inherits both from whoever has started it, and a policy deep
below a step asks for either without having been handed it through everything between.
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
    """On whose behalf a model is called, and where what happens around the call is written down.

    Every step's context is one; `PRESENT` says which one is the present.
    """

    @property
    def run(self) -> object:
        """What all accounts of one run have in common, and which lives as long as the run."""

    def used(self, usage: Usage) -> None:
        """Write down what a call consumed, unless it is written down already (`settled`)."""

    def record(self, note: type[Note], *fields: object) -> None:
        """Write an event into the run's journal; `fields` are those behind its `step`."""

    def spawn(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a task beside the runs until the engine is closed; what it raises is only logged."""


class NoAccount:
    """The account of calls that no run has made: nobody's, and nothing is written down."""

    caller = Caller()
    run_id = ""
    step = ""
    run: object = None

    def used(self, usage: Usage) -> None:
        """Forget it."""

    def record(self, note: type[Note], *fields: object) -> None:
        """Forget it."""

    def spawn(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        """There is no engine that it could run in.

        Raises:
            RuntimeError: always.
        """
        del task
        raise RuntimeError(f"{name} wants a task beside the runs, and no engine is open here")


NOBODY: Account = NoAccount()
PRESENT: ContextVar[Account] = ContextVar("orchestra_account", default=NOBODY)
"""Set by the engine in the task of each step that asks for a context."""


class JointAccount:
    """One of a call that several wait for, in tasks of their own."""

    @property
    @abstractmethod
    def until_s(self) -> float:
        """Until when they wait for it."""

    @abstractmethod
    def queue(self) -> None:
        """Know that the call waits for what its own caller may ask, as others need not."""

    @abstractmethod
    def begin(self) -> None:
        """Know that the limits of its caller have let it through, or that there are none."""

    @abstractmethod
    def each_run(self, note: Callable[[object], None]) -> None:
        """Tell this of each run that waits for the call, once, and of those that join later."""


def left_s() -> float:
    """How long the answer to a call is waited for: to the deadline of the task, or of all tasks."""
    account, until_s = PRESENT.get(), trio.current_effective_deadline()
    if isinstance(account, JointAccount):
        until_s = min(until_s, account.until_s)
    return until_s - trio.current_time()
