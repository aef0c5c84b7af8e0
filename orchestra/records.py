"""Records: the objects that policies keep in a state, their encodings, and the state itself.

A state in memory keeps the records themselves, so that they are not encoded and decoded for each
call; a state that processes share keeps the bytes that `Encoding.write` returns.

Bytes from a shared state may come from another version, be written by hand, or be cut. If they
cannot be decoded, `readable` treats them as absent: for data that is optional or can be fetched
again. `certain` raises StateError: for data that must not be lost, such as money spent, or a key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from orchestra.errors import StateError
from orchestra.eventclass import frozen

log = logging.getLogger("orchestra.state")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
D = TypeVar("D")


@frozen(eq=False)
class Encoding(Generic[D]):
    """How records are encoded: `read` decodes the bytes of `write`, also from other processes."""

    read: Callable[[bytes], D]
    write: Callable[[D], bytes]


AS_IT_IS: Encoding[bytes] = Encoding(bytes, bytes)
"""The encoding of records that are bytes."""


UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""The errors of decoding, including those for invalid UTF-8."""


def readable(decode: Callable[[bytes], T], data: bytes | None, what: str) -> T | None:
    """The decoded record; None if there is no data, or if it cannot be decoded, which is logged."""
    try:
        return None if data is None else decode(data)
    except UNREADABLE as error:
        log.warning("%s cannot be read, and is left out: %s", what, error)
        return None


def certain(decode: Callable[[bytes], T], data: bytes, what: str, fix: str) -> T:
    """The decoded record.

    Raises:
        StateError: it cannot be decoded; the message begins with `what` and ends with `fix`.
    """
    try:
        return decode(data)
    except UNREADABLE as error:
        raise StateError(f"{what} cannot be read: {error}; {fix}") from error


class Revision(msgspec.Struct, Generic[T_co, D], frozen=True):
    """The records that a revision writes, each with its lifetime in seconds, and its result.

    A key that is not in `records` keeps its record; None removes a key.
    """

    result: T_co
    records: Mapping[str, tuple[D, float] | None] = {}


class Entry(msgspec.Struct, frozen=True):
    """A value in a state, kept for `ttl_s` seconds from now; None means for ever.

    With `newest`, a state in memory keeps at most that many entries, the newest, among those whose
    keys are equal up to the last colon.
    """

    data: bytes
    ttl_s: float | None = None
    newest: int | None = None


class Change(msgspec.Struct, Generic[T_co], frozen=True):
    """The entries that a change writes, and the result that it returns.

    A key that is not in `entries` keeps its value; None removes a key.
    """

    result: T_co
    entries: Mapping[str, Entry | None] = {}


class State(Protocol):
    """Storage for the state of policies: of one process, of one host, or of all hosts.

    Keys are text without whitespace, and begin with the name of their policy and a colon.
    """

    at_once: bool = False
    """Whether its methods never wait and never fail, so that no call needs a timeout."""

    timeout_s: float = 0.0
    """How long a call may take until it fails, if this is configured: a cache waits as long."""

    async def change(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[bytes | None], float], Change[T]],
    ) -> T:
        """Change the values of some keys atomically, and return the result of `decide`.

        `decide` gets the present values, in the order of the keys, and the state's own time in
        seconds since 1970. It must be pure: on a conflict it is called again. If this is
        cancelled, the change may or may not have been made.

        Raises:
            StateError: the state is unreachable or too slow; the change may have been made.
        """

    async def revise(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[D | None], float], Revision[T, D]],
        encoding: Encoding[D],
    ) -> T:
        """Like `change`, for records that `encoding` reads and writes. Raises StateError.

        `decide` may modify a record and return it. If it modifies a record without returning it,
        it is undefined whether the record keeps the modification. A state in memory keeps the
        records themselves, without encoding them.
        """

        def decided(kept: Sequence[bytes | None], now_s: float) -> Change[T]:
            found = decide([None if each is None else encoding.read(each) for each in kept], now_s)
            entries = {
                key: None if each is None else Entry(encoding.write(each[0]), each[1])
                for key, each in found.records.items()
            }
            return Change(found.result, entries)

        return await self.change(keys, decided)

    async def look(
        self,
        keys: Sequence[str],
        see: Callable[[Sequence[D | None], float], T],
        encoding: Encoding[D],
    ) -> T:
        """Return what `see` makes of some records, which it must not change. Raises StateError."""
        return await self.revise(keys, lambda kept, now_s: Revision(see(kept, now_s)), encoding)

    async def recall(self, key: str) -> bytes | None:
        """Return the data of a key, or None, and mark the key as used. Raises StateError."""

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        """Keep data for `ttl_s` seconds at most; the least recently used is evicted first.

        Raises:
            StateError: the state is unreachable or too slow.
        """
