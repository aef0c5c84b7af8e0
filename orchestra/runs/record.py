"""The record of a run, and its events as lines, wherever it ran. Pure.

An event is kept as the line of JSON that clients are sent, with its number and its type. It is
never decoded again, so that all followers get the same bytes, in any process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from orchestra.accounts import Caller, Usage
from orchestra.errors import RunLostError
from orchestra.event_lines import encode
from orchestra.events import Event, RunCancelled, RunFailed, RunFinished

LOST_SEQ = 2**53 - 1
"""The number of the last event of a run whose process has died. Nobody knows how far the run came,
so it is greater than any number it can have used; JavaScript still holds it exactly."""


class Running(msgspec.Struct, frozen=True, tag="running"):
    """It goes on."""


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """It gave its result."""


class FailedWith(msgspec.Struct, frozen=True, tag="failed"):
    """It failed. `lost`: nobody knows how, since its process has died, or cannot write it."""

    error: str
    message: str
    lost: bool = False


class CancelledBy(msgspec.Struct, frozen=True, tag="cancelled"):
    """It was stopped."""

    reason: str


Outcome: TypeAlias = Running | Finished | FailedWith | CancelledBy
STATUSES = ("running", "finished", "failed", "cancelled")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a run. Times are seconds since 1970."""

    id: str
    pipeline: str
    process: str
    """The id of the process that runs it."""
    created_s: float
    request_id: str = ""
    organisation: str = ""
    user: str = ""
    key: str = ""
    outcome: Outcome = Running()
    ended_s: float | None = None
    usage: Usage | None = None
    last_seq: int = 0
    """The number of its last event, once it has ended."""
    end_user: bool = False
    """Whether the user is one that the key named."""
    begun: bool = True
    """Whether it is known to have begun; before that, only its idempotency key was claimed."""

    @property
    def status(self) -> str:
        """`running`, `finished`, `failed` or `cancelled`."""
        return str(self.outcome.__struct_config__.tag)

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return not isinstance(self.outcome, Running)

    @property
    def starter(self) -> Caller:
        """Who started it, without their allowance."""
        return Caller(self.organisation, self.user, self.key, end_user=self.end_user)

    @property
    def lost(self) -> bool:
        """Whether nobody knows how it has ended."""
        return isinstance(self.outcome, FailedWith) and self.outcome.lost


class EventLine(msgspec.Struct, frozen=True, array_like=True):
    """An event as it is sent: its number, its type, and the event as one line of JSON."""

    seq: int
    type: str
    data: bytes


def event_line_of(event: Event, request_id: str) -> EventLine:
    """The line of an event of a run that this request started."""
    return EventLine(event.seq, event.type, encode(event, request_id))


def event_lines_of(events: Iterable[Event], request_id: str) -> tuple[EventLine, ...]:
    """The lines of these events of a run that this request started."""
    return tuple([event_line_of(each, request_id) for each in events])


def ended(record: Record, event: Event, ended_s: float) -> Record:
    """The record of a run whose last event this is; it must be fit for clients already.

    Raises:
        ValueError: no run ends with it.
    """
    outcome: Outcome
    match event:
        case RunFinished():
            outcome = Finished()
        case RunFailed():
            outcome = FailedWith(event.error, _whole(event.message))
        case RunCancelled():
            outcome = CancelledBy(_whole(event.reason))
        case _:
            raise ValueError(f"no run ends with {event.type!r}: give its last event")
    return msgspec.structs.replace(
        record, outcome=outcome, ended_s=ended_s, usage=event.usage, last_seq=event.seq, begun=True
    )


def _whole(text: str) -> str:
    """A text without half characters, which cannot be stored; each as its escape."""
    return text.encode(errors="backslashreplace").decode()


DIED = "the process that ran it has died, and its later events are lost: start it again"
UNWRITABLE = "what it has given cannot be written, and is lost: the server's log says why"


def lost(record: Record, now_s: float, why: str = DIED) -> Record:
    """The record of a run of which nobody knows the end; `now_s` is the state's, and no host's.

    A run does not end before it began, also where the clock of its host was ahead.
    """
    outcome = FailedWith(RunLostError.__name__, why, lost=True)
    ended_s = max(now_s, record.created_s)
    return msgspec.structs.replace(record, outcome=outcome, ended_s=ended_s, last_seq=LOST_SEQ)


def last_of_lost(record: Record) -> tuple[EventLine, ...]:
    """The last event of a run that is lost: the same for all who follow it."""
    assert isinstance(record.outcome, FailedWith), "it is lost"
    at_s = max((record.ended_s or record.created_s) - record.created_s, 0.0)
    event = RunFailed(LOST_SEQ, at_s, record.outcome.error, record.outcome.message)
    return (event_line_of(event, record.request_id),)


def newer(kept: Sequence[EventLine], seq: int, record: Record) -> tuple[EventLine, ...]:
    """The events of an ended run that are newer than `seq`; empty at the end.

    As `Journal.newer`: where a snapshot stands for what is not kept, it comes first.

    Raises:
        RunLostError: some that were asked for are not kept, and nothing stands for them.
    """
    if record.last_seq and seq >= record.last_seq:
        return ()
    first = kept[0] if kept else None
    if first is None or not (first.type == "snapshot" or record.lost or seq + 1 >= first.seq):
        raise RunLostError(
            f"run {record.id} has ended, and its events after {seq} are no longer kept; follow it "
            "earlier, or raise the bound of a run's events"
        )
    if seq < first.seq:
        return tuple(kept)
    return tuple([event for event in kept if event.seq > seq])
