"""Records in a state: what a policy keeps there, as it works with it, and how it is written.

A state in memory keeps the records themselves, so that nothing is written and read again for
each call; one that other processes share keeps what `Encoding.write` has made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import attrs
import msgspec

T_co = TypeVar("T_co", covariant=True)
D = TypeVar("D")


@attrs.frozen(eq=False)
class Encoding(Generic[D]):
    """How records are written: `read` understands what `write` has made, in whatever process."""

    read: Callable[[bytes], D]
    write: Callable[[D], bytes]


AS_IT_IS: Encoding[bytes] = Encoding(bytes, bytes)
"""Of records that are bytes."""


class Revision(msgspec.Struct, Generic[T_co, D], frozen=True):
    """What becomes of records, each kept for as many seconds from now, and what came of it.

    One that is not in `records` stays as it is; one that is None is forgotten.
    """

    result: T_co
    records: Mapping[str, tuple[D, float] | None] = {}
