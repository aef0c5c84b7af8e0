"""Runs as clients read them: a record, a page of a list, and what is wrong with asking. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeVar

import attrs
import msgspec

from orchestra.errors import RunLostError
from orchestra.event_lines import written
from orchestra.events import RunCancelled, RunFailed, RunFinished
from orchestra.records import UNREADABLE
from orchestra.runs.record import LOST_SEQ, STATUSES, CancelledBy, EventLine, FailedWith, Record
from orchestra.server.inputs.reading import FAULTS_MAX
from orchestra.server.responses import problems
from orchestra.server.responses.problems import Fault, HttpProblem

T = TypeVar("T")

LIMIT = 20
LIMIT_MAX = 100


def shown(record: Record, last: EventLine | None = None) -> dict[str, object]:
    """A run; with its result, where its last event is given and has one that can be read."""
    at = address(record.id)
    view: dict[str, object] = {
        "id": record.id,
        "pipeline": record.pipeline,
        "status": record.status,
        "created_s": record.created_s,
        "ended_s": record.ended_s,
        "user": record.user,
        "request_id": record.request_id,
        "usage": record.usage,
        "links": {"self": at, "events": f"{at}/events"},
    }
    match record.outcome:
        case FailedWith(error, message):
            view["error"] = {"type": error, "message": message}
        case CancelledBy(reason):
            view["reason"] = reason
    if last is not None and last.type == RunFinished.type:
        with suppress(RunLostError):
            view["result"] = result_of(last).result
    return view


def address(run_id: str) -> str:
    """Where a run is."""
    return f"/v1/runs/{run_id}"


class ResultLine(msgspec.Struct):
    """The result of a run, with the same bytes as in its last event."""

    result: msgspec.Raw
    timings_s: msgspec.Raw
    usage: msgspec.Raw
    cut: bool = False


def result_of(last: EventLine) -> ResultLine:
    """The result in the last event of a run that has finished.

    Raises:
        RunLostError: what is kept of it cannot be read.
    """
    try:
        return msgspec.json.decode(last.data, type=ResultLine)
    except UNREADABLE:
        found = _with_halves(last, _ResultWithHalves)
        held = (found.result, found.timings_s, found.usage)
        result, timings_s, usage = (msgspec.Raw(written(each)) for each in held)
        return ResultLine(result, timings_s, usage, found.cut)


def _with_halves(last: EventLine, type_: type[T]) -> T:
    """An event in which half a character is escaped, which msgspec reads nowhere."""
    try:
        return msgspec.convert(json.loads(last.data), type_)
    except UNREADABLE as error:
        raise RunLostError(
            f"the record of its end cannot be read: {error}; start it again"
        ) from error


class _ResultWithHalves(msgspec.Struct):
    result: object
    timings_s: object
    usage: object
    cut: bool = False


def failure_of(last: EventLine) -> RunFailed | RunCancelled:
    """The problem of a run without a result, from its last event.

    Raises:
        RunLostError: as of `result_of`.
    """
    kind: type[RunFailed | RunCancelled]
    kind = RunCancelled if last.type == RunCancelled.type else RunFailed
    try:
        return msgspec.json.decode(last.data, type=kind)
    except UNREADABLE:
        return _with_halves(last, kind)


@attrs.frozen(kw_only=True)
class Listing:
    """Which runs are asked for."""

    limit: int = LIMIT
    cursor: int | None = None
    pipeline: str | None = None
    status: str | None = None


def listing_of(query: Mapping[str, str]) -> Listing | HttpProblem:
    """Which runs a query asks for, or all that is wrong with it."""
    faults = []
    limit = whole(query.get("limit", str(LIMIT)))
    if limit is None or not 1 <= limit <= LIMIT_MAX:
        faults.append(Fault("limit", "?limit", f"limit is a number from 1 to {LIMIT_MAX}"))
    cursor = whole(query["cursor"]) if "cursor" in query else None
    if "cursor" in query and cursor is None:
        faults.append(Fault("cursor", "?cursor", "cursor is what `next_cursor` was"))
    status = query.get("status")
    if status is not None and status not in STATUSES:
        faults.append(Fault("status", "?status", f"status is one of {', '.join(STATUSES)}"))
    known = {"limit", "cursor", "pipeline", "status"}
    faults += [
        Fault(name, f"?{name}", f"there is no {name[:100]!r} to ask for")
        for name in sorted(set(query) - known)[:FAULTS_MAX]
    ]
    if faults:
        return problems.bad_inputs(faults)
    return Listing(
        limit=limit or LIMIT, cursor=cursor, pipeline=query.get("pipeline"), status=status
    )


def whole(text: str) -> int | None:
    """A number that is not negative, and that JavaScript holds exactly; else None."""
    readable = text.isascii() and text.isdigit() and len(text) <= len(str(LOST_SEQ))
    return int(text) if readable else None


def unknown_run(run_id: str) -> HttpProblem:
    """There is no such run, or the caller may not know of it."""
    detail = (
        f"no run {run_id[:100]!r} is known to you: it was never started, or is no longer kept; GET "
        "/v1/runs lists those that are"
    )
    return HttpProblem(404, "unknown-run", "There is no such run.", detail)


def not_kept(run_id: str, detail: str) -> HttpProblem:
    """The run is known, but its events are not kept."""
    run = (("run_id", run_id),)
    return HttpProblem(410, "run-not-kept", "Its events are no longer kept.", detail, extras=run)


def other_request(run_id: str) -> HttpProblem:
    """The idempotency key came with another request before."""
    detail = "this `Idempotency-Key` came with another request; send a new one"
    run = (("run_id", run_id),)
    return HttpProblem(
        422, "idempotency-key-reused", "The key stands for another run.", detail, extras=run
    )


def bad_event_id(given: str) -> HttpProblem:
    """It does not say which events the client has."""
    detail = f"{given[:100]!r} is not the number of an event; send back the `id` that came last"
    return HttpProblem(400, "bad-event-id", "There is no such event.", detail)


def nothing_to_resume(given: str) -> HttpProblem:
    """A client resumes a run that it does not name, or that is not the run of its key."""
    detail = (
        f"`Last-Event-ID: {given[:100]}` is not of the run of this request, and a client that "
        "comes back starts none; send back the whole `id` that came last (`RUN.SEQ`), or the "
        "`Idempotency-Key` of the start, or leave the header out to start a run"
    )
    return HttpProblem(400, "bad-event-id", "There is no such event.", detail)
