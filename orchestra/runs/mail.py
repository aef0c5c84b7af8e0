"""What one process asks of another by way of the state, and how it is answered. Pure.

A process that follows a run from elsewhere asks the one that runs it for the events behind a
number. They are published under that number, with the number of the last of them, and there is
where the follower looks next: a chain, which several followers share from wherever they join it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from orchestra.protocols import Change, Entry
from orchestra.records import readable
from orchestra.runs.record import EventLine

LETTERS_MAX = 1_000
"""Letters that wait in a box; one more is not taken, and is written again."""
LETTER_TTL_S = 10.0
PUBLISHED_TTL_S = 10.0


class FollowLetter(msgspec.Struct, frozen=True, tag="follow"):
    """Somebody follows the run, has its events up to `seq`, and asks for the next.

    `asker` is theirs alone: where there is no such event, they are told under it where to go on.
    """

    run_id: str
    seq: int
    asker: str


class CancelLetter(msgspec.Struct, frozen=True, tag="cancel"):
    """Somebody cancels the run."""

    run_id: str
    reason: str


Letter: TypeAlias = FollowLetter | CancelLetter


class Published(msgspec.Struct, frozen=True):
    """Some events of a run, and the number behind which the next are."""

    events: tuple[EventLine, ...]
    upto: int


def box_key(process: str) -> str:
    """Where a process's letters are."""
    return f"run:mail:{process}"


def heartbeat(process: str, ttl_s: float) -> dict[str, Entry]:
    """What a process writes to be taken for alive, for so long."""
    return {process_key(process): Entry(b"alive", ttl_s)}


def process_key(process: str) -> str:
    """Where a process says that it is alive."""
    return f"run:process:{process}"


def published_key(run_id: str, seq: int | str) -> str:
    """Where the events of a run behind this number are, or what is said to one who asks."""
    return f"run:told:{run_id}:{seq}"


def put(box: str, letter: Letter, there: Sequence[bytes | None], _: float) -> Change[bool]:
    """A letter put into the box, once; whether it is in there."""
    letters = opened(there[0])
    if letter in letters:
        return Change(True)
    if len(letters) >= LETTERS_MAX:
        return Change(False)
    return Change(True, {box: Entry(msgspec.msgpack.encode((*letters, letter)), LETTER_TTL_S)})


def opened(data: bytes | None) -> tuple[Letter, ...]:
    """The letters in a box."""
    return readable(_LETTERS.decode, data, "a box of letters") or ()


def published(data: bytes | None) -> Published | None:
    """What was published, if anything was."""
    return readable(_PUBLISHED.decode, data, "what was published of a run")


def entry(batch: Published) -> Entry:
    """A batch as it is stored."""
    return Entry(msgspec.msgpack.encode(batch), PUBLISHED_TTL_S)


_LETTERS = msgspec.msgpack.Decoder(tuple[Letter, ...])
_PUBLISHED = msgspec.msgpack.Decoder(Published)
