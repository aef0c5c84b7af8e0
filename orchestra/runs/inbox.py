"""Requests from one process to another through the shared state, and their answers. Pure.

To follow a run of another process, a process asks it for the events after a number. They are
published under a key with that number, together with the number of the last of them, which is the
key to look under next. So the published batches form a linked list that several followers share.

A request stays in the inbox until it has been handled, so that no request is lost if a response of
the state is lost. A request may be handled twice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias

import msgspec

from orchestra.protocols import Change, Entry
from orchestra.records import readable
from orchestra.runs.record import EventLine

REQUESTS_MAX = 1_000
"""How many requests an inbox holds; further ones are refused, and their senders retry."""
REQUEST_TTL_S = 10.0
PUBLISHED_TTL_S = 10.0


class FollowRequest(msgspec.Struct, frozen=True, tag="follow"):
    """A follower of the run has the events up to `seq` and asks for the next ones.

    `asker` is the follower's own id: if the journal has no event `seq` yet, the number to continue
    from is published under `asker`.
    """

    run_id: str
    seq: int
    asker: str


class CancelRequest(msgspec.Struct, frozen=True, tag="cancel"):
    """Cancel the run."""

    run_id: str
    reason: str


PeerRequest: TypeAlias = FollowRequest | CancelRequest


class Published(msgspec.Struct, frozen=True):
    """A batch of events of a run; `upto` is the number after which to ask for more."""

    events: tuple[EventLine, ...]
    upto: int


def inbox_key(process: str) -> str:
    """The key of the inbox of a process."""
    return f"run:mail:{process}"


def heartbeat(process: str, ttl_s: float) -> dict[str, Entry]:
    """The entry that makes a process count as alive for `ttl_s`."""
    return {process_key(process): Entry(b"alive", ttl_s)}


def process_key(process: str) -> str:
    """The key of the heartbeat of a process."""
    return f"run:process:{process}"


def published_key(run_id: str, seq: int | str) -> str:
    """The key of the events of a run after number `seq`, or of the answer to an `asker`."""
    return f"run:told:{run_id}:{seq}"


def put(at: str, request: PeerRequest, stored: Sequence[bytes | None], _: float) -> Change[None]:
    """Add a request to the inbox, unless it is there already, or the inbox is full."""
    requests = opened(stored[0])
    if request in requests or len(requests) >= REQUESTS_MAX:
        return Change(None)
    return Change(None, {at: _entry((*requests, request))})


def take(
    at: str, handled: Collection[PeerRequest], data: bytes | None
) -> tuple[tuple[PeerRequest, ...], dict[str, Entry | None]]:
    """The requests that are not handled yet, and the entries that remove the handled ones."""
    requests = opened(data)
    rest = tuple([each for each in requests if each not in handled])
    if len(rest) == len(requests):
        return rest, {}
    return rest, {at: _entry(rest) if rest else None}


def opened(data: bytes | None) -> tuple[PeerRequest, ...]:
    """The requests in an inbox."""
    return readable(_REQUESTS.decode, data, "an inbox") or ()


def published(data: bytes | None) -> Published | None:
    """The published batch; None if there is none, or it cannot be read."""
    return readable(_PUBLISHED.decode, data, "a published batch of a run")


def entry(batch: Published) -> Entry:
    """A batch as it is stored."""
    return Entry(msgspec.msgpack.encode(batch), PUBLISHED_TTL_S)


def _entry(requests: Sequence[PeerRequest]) -> Entry:
    return Entry(msgspec.msgpack.encode(requests), REQUEST_TTL_S)


_REQUESTS = msgspec.msgpack.Decoder(tuple[PeerRequest, ...])
_PUBLISHED = msgspec.msgpack.Decoder(Published)
