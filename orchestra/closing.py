"""What is closed at the end, and what several use until the last of them is closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from threading import Lock
from types import TracebackType
from typing import Self, TypeVar, cast

T = TypeVar("T")
_LOCK = Lock()


class Closing(ABC):
    """Leaving a `with` statement closes it; what is raised there goes on."""

    @abstractmethod
    def close(self) -> None:
        """Close what it has opened, without waiting."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Opened(Closing):
    """What one deployment has opened: things of its own, and things that it shares.

    What deployments that `share` open under one key is one thing, which the last of them closes.
    All is closed once, whatever raises. Things may be opened in any thread.
    """

    def __init__(self) -> None:
        self.used: dict[Hashable, object] = {}
        """What it has open that may be shared."""
        self._users: dict[Hashable, tuple[object, int]] = {}
        self._closing = ExitStack()

    def share(self, other: Opened) -> None:
        """Share what is opened from now on, and what the other has open."""
        self._users = other._users

    def own(self, made: T) -> T:
        """What was made, which is closed with it, if it can be closed."""
        self._closing.callback(close, made)
        return made

    def shared(self, key: Hashable, opened: Callable[[], T]) -> T:
        """What is open under this key; opened, if nothing is."""
        with _LOCK:
            if key not in self.used:
                found, users = self._users.get(key) or (opened(), 0)
                self._users[key], self.used[key] = (found, users + 1), found
                self._closing.callback(self._leave, key)
            return cast("T", self.used[key])

    def close(self) -> None:
        """Close its own things, and those that nobody else uses."""
        self._closing.close()

    def _leave(self, key: Hashable) -> None:
        with _LOCK:
            found, users = self._users.pop(key)
            if users > 1:
                self._users[key] = found, users - 1
        if users == 1:
            close(found)


def close(made: object) -> None:
    """Close what was made, if it can be closed."""
    if callable(its := getattr(made, "close", None)):
        its()
