"""The record of a run, and its events as lines of JSON. Pure.

An event is stored as the line of JSON that clients are sent, with its number and its type. The line
is never decoded and encoded again, so followers in all processes get the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from orchestra.accounts import Caller, Usage
from orchestra.errors import RunLostError
from orchestra.event_lines import encode
from orchestra.events import Event, RunCancelled, RunFailed, RunFinished
from orchestra.surrogates import escaped

LOST_SEQ = 2**53 - 1
"""The number of the last event of a run whose process died. Nobody knows how many events the run
had, so this is greater than any number it can have used. JavaScript can represent it exactly."""


class Running(msgspec.Struct, frozen=True, tag="running"):
    """The run is in progress."""


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The run finished with a result."""


class FailedWith(msgspec.Struct, frozen=True, tag="failed"):
    """The run failed. With `lost`, its end is unknown: its process died or could not write it."""

    error: str
    message: str
    lost: bool = False


class CancelledBy(msgspec.Struct, frozen=True, tag="cancelled"):
    """The run was cancelled."""

    reason: str


Outcome: TypeAlias = Running | Finished | FailedWith | CancelledBy
STATUSES = ("running", "finished", "failed", "cancelled")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a run. Times are seconds since 1970."""

    id: str
    pipeline: str
    model: str | None = None
    """The requested name, if a client called a model directly."""
    process: str
    """The id of the process in which it runs or ran."""
    created_s: float
    request_id: str = ""
    organisation: str = ""
    user: str = ""
    key: str = ""
    outcome: Outcome = Running()
    ended_s: float | None = None
    usage: Usage | None = None
    usage_by_model: Mapping[str, Usage] = {}
    tags: Mapping[str, str] = {}
    last_seq: int = 0
    """The number of its last event; 0 while it is in progress."""
    end_user: bool = False
    """Whether `user` is an end user that the request named."""
    begun: bool = True
    """Whether the run is known to have started; if not, only its idempotency key is claimed."""

    @property
    def status(self) -> str:
        """`running`, `finished`, `failed` or `cancelled`."""
        return str(self.outcome.__struct_config__.tag)

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return not isinstance(self.outcome, Running)

    @property
    def starter(self) -> Caller:
        """The caller who started the run, without the key's allowance."""
        return Caller(self.organisation, self.user, self.key, end_user=self.end_user)

    @property
    def lost(self) -> bool:
        """Whether the run is lost: its real end is unknown."""
        return isinstance(self.outcome, FailedWith) and self.outcome.lost


class EventLine(msgspec.Struct, frozen=True, array_like=True):
    """An event as it is sent: its number, its type, and itself as one line of JSON."""

    seq: int
    type: str
    data: bytes


def event_line_of(event: Event, request_id: str) -> EventLine:
    """The line of an event; `request_id` is that of the request that started the run."""
    return EventLine(event.seq, event.type, encode(event, request_id))


def event_lines_of(events: Iterable[Event], request_id: str) -> tuple[EventLine, ...]:
    """The lines of events; `request_id` is that of the request that started the run."""
    return tuple([event_line_of(each, request_id) for each in events])


def ended(record: Record, event: Event, ended_s: float) -> Record:
    """The record of a run that ended with this event, which must be fit for clients already.

    Raises:
        ValueError: the event is not one that ends a run.
    """
    outcome: Outcome
    match event:
        case RunFinished():
            outcome = Finished()
        case RunFailed():
            outcome = FailedWith(event.error, escaped(event.message))
        case RunCancelled():
            outcome = CancelledBy(escaped(event.reason))
        case _:
            raise ValueError(f"{event.type!r} does not end a run: pass the last event of the run")
    return msgspec.structs.replace(
        _over(record, outcome, ended_s),
        usage=event.usage,
        usage_by_model=event.usage_by_model,
        last_seq=event.seq,
        begun=True,
    )


def _over(record: Record, outcome: Outcome, ended_s: float) -> Record:
    """The record of an ended run; it never ends before it started, even if a clock was set back."""
    ended_s = max(ended_s, record.created_s)
    return msgspec.structs.replace(record, outcome=outcome, ended_s=ended_s)


Fit: TypeAlias = Callable[[Event], Event]
"""A function that makes an event fit for clients, for example by removing internal details."""


def unchanged(event: Event) -> Event:
    """The event itself: the default for `fit`."""
    return event


DIED = "the process of this run has died, and the run's later events are lost: start it again"
UNWRITABLE = "the result of this run cannot be encoded, and is lost: the server's log says why"


def lost(record: Record, now_s: float, why: str = DIED) -> Record:
    """The record of a lost run; `now_s` must be by the clock of the state, not of a process."""
    outcome = FailedWith(RunLostError.__name__, why, lost=True)
    return msgspec.structs.replace(_over(record, outcome, now_s), last_seq=LOST_SEQ)


def last_of_lost(record: Record, fit: Fit = unchanged) -> tuple[EventLine, ...]:
    """The last event of a lost run, which is the same for all followers."""
    assert isinstance(record.outcome, FailedWith), "a lost run has failed"
    at_s = max((record.ended_s or record.created_s) - record.created_s, 0.0)
    event = RunFailed(LOST_SEQ, at_s, record.outcome.error, record.outcome.message)
    return (event_line_of(fit(event), record.request_id),)


def newer(kept: Sequence[EventLine], seq: int, record: Record) -> tuple[EventLine, ...]:
    """The events of an ended run that are newer than `seq`; empty after the last event.

    Like `Journal.newer`: if a snapshot stands for events that are not kept, it comes first.

    Raises:
        RunLostError: some of these events are not kept, and no snapshot stands for them.
    """
    if seq >= (record.last_seq or LOST_SEQ):
        return ()
    first = kept[0] if kept else None
    if first is None or not (first.type == "snapshot" or record.lost or seq + 1 >= first.seq):
        raise RunLostError(
            f"run {record.id} has ended, and its events after {seq} are no longer kept; follow it "
            "earlier, or have `kept_bytes` raised in [server.runs]"
        )
    if seq < first.seq:
        return tuple(kept)
    return tuple([event for event in kept if event.seq > seq])
