"""The state of policies in the memory of this process.

Rules of the file: nothing is awaited, so a change is atomic and cannot be cancelled. A record is
encoded only when its bytes are needed.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any, TypeAlias, TypeVar

from orchestra.protocols import Change, State
from orchestra.records import Encoding, Revision

T = TypeVar("T")
D = TypeVar("D")
_Kept: TypeAlias = tuple[Any, float, Encoding[Any] | None]
"""A record, its expiry, and its encoding; None for bytes."""
_NOTHING: _Kept = (None, -inf, None)


class MemoryState(State):
    """A `State` that lives as long as this object. Its methods are no checkpoints.

    The values of `remember` and their keys may take `limit_bytes` in total. `now_s` returns the
    time in seconds; in tests, that of the virtual clock.
    """

    at_once = True

    def __init__(
        self, *, limit_bytes: int = 64 * 1024 * 1024, now_s: Callable[[], float] = time.time
    ) -> None:
        self._limit_bytes = limit_bytes
        self._now_s = now_s
        self._entries: dict[str, _Kept] = {}
        self._sweep_at = 1024
        self._newest: dict[str, OrderedDict[str, None]] = {}
        self._remembered: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._expiries: list[tuple[float, str]] = []
        """A heap of all expiries of remembered values, and some of values that are gone."""
        self._size_bytes = 0

    async def change(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[bytes | None], float], Change[T]],
    ) -> T:
        """Change what is kept under some keys; `decide` is called exactly once."""
        now_s = self._now_s()
        change = decide([self._read(key, now_s) for key in keys], now_s)
        for key, entry in change.entries.items():
            if entry is None:
                self._entries.pop(key, None)
                if (newest := self._newest.get(_kind(key))) is not None:
                    newest.pop(key, None)
            else:
                until_s = inf if entry.ttl_s is None else now_s + entry.ttl_s
                self._entries[key] = (entry.data, until_s, None)
                if entry.newest is not None:
                    self._keep_newest(entry.newest, key)
        if len(self._entries) >= self._sweep_at:
            self._sweep(now_s)
        return change.result

    async def revise(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[D | None], float], Revision[T, D]],
        encoding: Encoding[D],
    ) -> T:
        """Change records, which are stored as objects, without encoding them."""
        now_s, entries, records = self._now_s(), self._entries, []
        for key in keys:
            found, until_s, written = entries.get(key, _NOTHING)
            if until_s <= now_s:
                found = None
            elif written is not encoding:
                found = encoding.read(_bytes(found, written))
            records.append(found)
        revision = decide(records, now_s)
        for key, each in revision.records.items():
            if each is None:
                entries.pop(key, None)
            else:
                entries[key] = (each[0], now_s + each[1], encoding)
        if len(entries) >= self._sweep_at:
            self._sweep(now_s)
        return revision.result

    async def recall(self, key: str) -> bytes | None:
        kept = self._remembered.get(key)
        if kept is None:
            return None
        data, until_s = kept
        if until_s <= self._now_s():
            self._forget(key)
            return None
        self._remembered.move_to_end(key)
        return data

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        self._forget(key)
        size_bytes = len(key) + len(data)
        if size_bytes > self._limit_bytes or ttl_s <= 0:
            return
        now_s = self._now_s()
        while self._size_bytes + size_bytes > self._limit_bytes:
            self._forget(self._useless(now_s))
        self._remembered[key] = (data, now_s + ttl_s)
        self._size_bytes += size_bytes
        heappush(self._expiries, (now_s + ttl_s, key))
        if len(self._expiries) > 1024 + 2 * len(self._remembered):  # most are of replaced values
            self._expiries = [(until_s, each) for each, (_, until_s) in self._remembered.items()]
            heapify(self._expiries)

    def close(self) -> None:
        """Does nothing: nothing is open, and the data is kept."""

    def _read(self, key: str, now_s: float) -> bytes | None:
        found, until_s, encoding = self._entries.get(key, _NOTHING)
        return _bytes(found, encoding) if until_s > now_s else None

    def _useless(self, now_s: float) -> str:
        """The key of a value that has expired, or else of the least recently used one."""
        while self._expiries and self._expiries[0][0] <= now_s:
            _, key = heappop(self._expiries)
            if self._remembered.get(key, (b"", inf))[1] <= now_s:
                return key
        return next(iter(self._remembered))

    def _forget(self, key: str) -> None:
        kept = self._remembered.pop(key, None)
        if kept is not None:
            self._size_bytes -= len(key) + len(kept[0])

    def _keep_newest(self, most: int, key: str) -> None:
        """Note that `key` is the newest of its kind; drop the oldest if there are over `most`."""
        newest = self._newest.setdefault(_kind(key), OrderedDict())
        newest[key] = None
        newest.move_to_end(key)
        if len(newest) > most:
            self._entries.pop(newest.popitem(last=False)[0], None)

    def _sweep(self, now_s: float) -> None:
        """Drop expired entries; sweeps again when there are twice as many entries as are left."""
        there = self._entries = {
            key: kept for key, kept in self._entries.items() if kept[1] > now_s
        }
        self._newest = {
            kind: keys for kind, keys in self._newest.items() if any(key in there for key in keys)
        }
        self._sweep_at = max(1024, 2 * len(there))


def _kind(key: str) -> str:
    return key.rpartition(":")[0]


def _bytes(found: Any, encoding: Encoding[Any] | None) -> bytes:
    data: bytes = found if encoding is None else encoding.write(found)
    return data
