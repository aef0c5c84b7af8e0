"""A queue in which callers take turns, so that none has to wait for all calls of another. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Items in lines, one line for each caller: within it, they are served in order.

    The head is the first item of the line whose turn it is. Once the head is served, its line has
    the last turn. An item that leaves before it is served does not use the turn of its line.
    """

    def __init__(self) -> None:
        self._lines: dict[str, deque[T]] = {}
        """In the order of their turns; a line without items has none."""
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        """All items, line by line."""
        return chain.from_iterable(self._lines.values())

    @property
    def head(self) -> T | None:
        """The next item to serve; None if there is none."""
        return next((line[0] for line in self._lines.values()), None)

    def add(self, name: str, item: T) -> None:
        """Add an item to the end of the line of this name."""
        self._lines.setdefault(name, deque()).append(item)
        self._size += 1

    def serve(self) -> None:
        """Remove the head, and give the next line its turn."""
        name, line = next(iter(self._lines.items()))
        line.popleft()
        self._size -= 1
        del self._lines[name]
        if line:
            self._lines[name] = line

    def remove(self, name: str, item: T) -> None:
        """Remove an item, wherever it is in its line."""
        line = self._lines[name]
        line.remove(item)
        self._size -= 1
        if not line:
            del self._lines[name]

    def ahead(self, name: str) -> list[T]:
        """The items that are served before the next one to be added to the line of this name."""
        own = self.count(name)
        found: list[T] = []
        turns = own + 1  # of the lines whose turn comes before that of this line
        for each, line in self._lines.items():
            if each == name:
                turns = own
            found += islice(line, turns)
        return found

    def count(self, name: str) -> int:
        """The number of items in the line of this name."""
        return len(self._lines.get(name, ()))

    def longest(self) -> str:
        """The name of the longest line; of several, that with the last turn; "" without any."""
        return max(reversed(self._lines), key=self.count, default="")

    def pop(self, name: str) -> T:
        """Remove the last item of the line of this name, and return it."""
        item = self._lines[name][-1]
        self.remove(name, item)
        return item
