"""Records in a state: what a policy keeps there, as it works with it, and how it is written.

A state in memory keeps the records themselves, so that nothing is written and read again for
each call; one that other processes share keeps what `Encoding.write` has made of them.

What a shared state gives back may be of another version, written by hand, or cut. `readable` takes
that for nothing: of what can be done without, or asked for again. `certain` raises StateError: of
what is a promise to somebody, such as what is spent, or a key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from orchestra.errors import StateError
from orchestra.eventclass import frozen

log = logging.getLogger("orchestra.state")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
D = TypeVar("D")


@frozen(eq=False)
class Encoding(Generic[D]):
    """How records are written: `read` understands what `write` has made, in whatever process."""

    read: Callable[[bytes], D]
    write: Callable[[D], bytes]


AS_IT_IS: Encoding[bytes] = Encoding(bytes, bytes)
"""The encoding of records that are bytes."""


UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""The errors of decoding, including those for invalid UTF-8."""


def readable(decode: Callable[[bytes], T], data: bytes | None, what: str) -> T | None:
    """The decoded record; None if there is none, or if it cannot be read, which is logged."""
    try:
        return None if data is None else decode(data)
    except UNREADABLE as error:
        log.warning("%s cannot be read, and is left out: %s", what, error)
        return None


def certain(decode: Callable[[bytes], T], data: bytes, what: str, fix: str) -> T:
    """The decoded record.

    Raises:
        StateError: it cannot be read; `what` begins the message, and `fix` ends it.
    """
    try:
        return decode(data)
    except UNREADABLE as error:
        raise StateError(f"{what} cannot be read: {error}; {fix}") from error


class Revision(msgspec.Struct, Generic[T_co, D], frozen=True):
    """The new records, each with its lifetime in seconds from now, and the result.

    One that is not in `records` stays as it is; one that is None is forgotten.
    """

    result: T_co
    records: Mapping[str, tuple[D, float] | None] = {}
