"""Resources that are closed at the end, some of them shared until their last user closes."""

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
    """A context manager whose exit calls `close`; exceptions of the body propagate."""

    @abstractmethod
    def close(self) -> None:
        """Close everything it opened, without waiting."""

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
    """The resources that one deployment has opened: its own, and those it shares with others.

    Deployments that `share` get the same resource for the same key, and the last of them to close
    closes it. Every resource is closed exactly once, whatever raises. Resources may be opened in
    any thread.
    """

    def __init__(self) -> None:
        self.used: dict[Hashable, object] = {}
        """The shared resources that this deployment uses, by key."""
        self._users: dict[Hashable, tuple[object, int]] = {}
        self._closing = ExitStack()

    def share(self, other: Opened) -> None:
        """Share the resources that the other deployment has open, and all opened from now on."""
        self._users = other._users

    def own(self, made: T) -> T:
        """Take ownership of `made` and return it; `close` closes it if it has a `close` method."""
        self._closing.callback(close, made)
        return made

    def shared(self, key: Hashable, opened: Callable[[], T]) -> T:
        """Return the shared resource of this key; `opened()` opens it if none is open."""
        with _LOCK:
            if key not in self.used:
                found, users = self._users.get(key) or (opened(), 0)
                self._users[key], self.used[key] = (found, users + 1), found
                self._closing.callback(self._leave, key)
            return cast("T", self.used[key])

    def close(self) -> None:
        """Close its own resources, and the shared ones that no other deployment uses."""
        self._closing.close()

    def _leave(self, key: Hashable) -> None:
        with _LOCK:
            found, users = self._users.pop(key)
            if users > 1:
                self._users[key] = found, users - 1
        if users == 1:
            close(found)


def close(made: object) -> None:
    """Close `made`, if it has a `close` method."""
    if callable(method := getattr(made, "close", None)):
        method()
