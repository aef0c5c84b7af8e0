"""Runs as clients see them: a record, a query for a list, and problems of these routes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import attrs
import msgspec
from msgspec import structs

from orchestra.errors import RunLostError
from orchestra.event_lines import read_back, written
from orchestra.events import RunCancelled, RunFailed, RunFinished
from orchestra.records import UNREADABLE
from orchestra.runs.record import LOST_SEQ, STATUSES, CancelledBy, EventLine, FailedWith, Record
from orchestra.server.inputs.reading import FAULTS_MAX
from orchestra.server.responses import problems
from orchestra.server.responses.problems import Fault, HttpProblem
from orchestra.tags import NO_TAGS, Tags, tags_of

T = TypeVar("T")

LIMIT = 20
LIMIT_MAX = 100


def shown(record: Record, last: EventLine | None = None) -> dict[str, object]:
    """A run as JSON; with its result or problem, if the last event is given and can be read."""
    at = address(record.id)
    view: dict[str, object] = {
        "id": record.id,
        "pipeline": record.pipeline,
        "model": record.model,
        "status": record.status,
        "created_s": record.created_s,
        "ended_s": record.ended_s,
        "user": record.user,
        "key": record.key,
        "request_id": record.request_id,
        "tags": record.tags,
        "usage": record.usage,
        "usage_by_model": record.usage_by_model,
        "links": {"self": at, "events": f"{at}/events"},
    }
    match record.outcome:
        case FailedWith(error, message):
            view["error"] = {"type": error, "message": message}
        case CancelledBy(reason):
            view["reason"] = reason
    with suppress(RunLostError):
        if last is not None and last.type == RunFinished.type:
            view["result"] = result_of(last).result
        elif last is not None and last.type == RunFailed.type:
            failure = failure_of(last)
            view |= {name: getattr(failure, name) for name in ("problem", "retry_after_s")}
    return view


def address(run_id: str) -> str:
    """The path of a run."""
    return f"/v1/runs/{run_id}"


class ResultLine(msgspec.Struct):
    """The result of a run; values keep the bytes that they have in its last event."""

    result: msgspec.Raw
    timings_s: msgspec.Raw
    usage: msgspec.Raw
    cut: bool = False
    usage_by_model: msgspec.Raw = msgspec.Raw(b"{}")  # not in events of an earlier version


def result_of(last: EventLine) -> ResultLine:
    """The result of a finished run, from its last event.

    Raises:
        RunLostError: the stored event cannot be read.
    """
    try:
        return msgspec.json.decode(last.data, type=ResultLine)
    except UNREADABLE:
        found = _with_halves(last, _ResultWithHalves)
        held = (found.result, found.timings_s, found.usage, found.usage_by_model)
        result, timings_s, usage, by_model = (msgspec.Raw(written(each)) for each in held)
        return ResultLine(result, timings_s, usage, found.cut, by_model)


def _with_halves(last: EventLine, type_: type[T]) -> T:
    """Decode an event that has escaped lone surrogates, which msgspec does not accept."""
    try:
        return msgspec.convert(json.loads(last.data), type_)
    except UNREADABLE as error:
        raise RunLostError(
            f"the stored end of the run cannot be read: {error}; start the run again"
        ) from error


class _ResultWithHalves(msgspec.Struct):
    result: object
    timings_s: object
    usage: object
    cut: bool = False
    usage_by_model: object = msgspec.field(default_factory=dict)


def line_without_result(line: EventLine) -> EventLine:
    """The event with null for its result, for clients that have had all chunks of it."""
    if line.type != RunFinished.type:
        return line
    return structs.replace(line, data=written({**read_back(line.data), "result": None}))


def failure_of(last: EventLine) -> RunFailed | RunCancelled:
    """The last event of a run without a result.

    Raises:
        RunLostError: as for `result_of`.
    """
    kind: type[RunFailed | RunCancelled]
    kind = RunCancelled if last.type == RunCancelled.type else RunFailed
    try:
        return msgspec.json.decode(last.data, type=kind)
    except UNREADABLE:
        return _with_halves(last, kind)


@attrs.frozen(kw_only=True)
class Listing:
    """Which runs a client wants to list."""

    limit: int = LIMIT
    cursor: int | None = None
    pipeline: str | None = None
    status: str | None = None
    tags: Tags = NO_TAGS

    def has(self, record: Record) -> bool:
        """Whether a run is one of these."""
        return (
            self.pipeline in (None, record.pipeline)
            and self.status in (None, record.status)
            and self.tags.items() <= record.tags.items()
        )


def listing_of(query: Mapping[str, str], tags: Sequence[str] = ()) -> Listing | HttpProblem:
    """The listing that a query asks for, or the problem with everything that is wrong in it.

    `tags` are all values of the parameter `tag`.
    """
    faults = []
    limit = whole(query.get("limit", str(LIMIT)))
    if limit is None or not 1 <= limit <= LIMIT_MAX:
        faults.append(Fault("limit", "?limit", f"limit must be a number from 1 to {LIMIT_MAX}"))
    cursor = whole(query["cursor"]) if "cursor" in query else None
    if "cursor" in query and cursor is None:
        faults.append(Fault("cursor", "?cursor", "cursor must be a `next_cursor` of a list"))
    status = query.get("status")
    if status is not None and status not in STATUSES:
        faults.append(Fault("status", "?status", f"status must be one of {', '.join(STATUSES)}"))
    wanted: Tags = NO_TAGS
    try:
        wanted = tags_of(tags)
    except ValueError as error:
        faults.append(Fault("tag", "?tag", str(error)))
    known = {"limit", "cursor", "pipeline", "status", "tag"}
    faults += [
        Fault(name, f"?{name}", f"there is no query parameter {name[:100]!r}")
        for name in sorted(set(query) - known)[:FAULTS_MAX]
    ]
    if faults:
        return problems.bad_inputs(faults)
    return Listing(
        limit=limit or LIMIT,
        cursor=cursor,
        pipeline=query.get("pipeline"),
        status=status,
        tags=wanted,
    )


def whole(text: str) -> int | None:
    """The non-negative number in a text; None if it has none that JavaScript holds exactly."""
    readable = text.isascii() and text.isdigit() and len(text) <= len(str(LOST_SEQ))
    return int(text) if readable else None


def unknown_run(run_id: str) -> HttpProblem:
    """The problem that there is no such run, or that the caller may not see it."""
    detail = (
        f"no run {run_id[:100]!r} is known to you: it was never started, or is no longer kept; GET "
        "/v1/runs lists the runs that you may see"
    )
    return HttpProblem(404, "unknown-run", "There is no such run.", detail)


def not_kept(run_id: str, detail: str) -> HttpProblem:
    """The problem that a run is known, but its events are no longer kept."""
    run, title = (("run_id", run_id),), "The run's events are no longer kept."
    return HttpProblem(410, "run-not-kept", title, detail, extras=run)


def other_request(run_id: str) -> HttpProblem:
    """The problem that the idempotency key was used for a different request before."""
    detail = "this `Idempotency-Key` was sent with a different request before; send a new key"
    run = (("run_id", run_id),)
    return HttpProblem(
        422, "idempotency-key-reused", "The key stands for another run.", detail, extras=run
    )


def bad_event_id(given: str) -> HttpProblem:
    """The problem that a value is not the id of an event of the run."""
    detail = f"{given[:100]!r} is not the number of an event; send back the `id` that came last"
    return HttpProblem(400, "bad-event-id", "There is no such event.", detail)


def nothing_to_resume(given: str) -> HttpProblem:
    """The problem that a client resumes a run without naming it, or not the run of its key."""
    detail = (
        f"`Last-Event-ID: {given[:100]}` does not name an event of this request's run, and a "
        "request with this header starts no run; send back the whole last `id` (`RUN.SEQ`), or "
        "send the `Idempotency-Key` of the start; to start a run, leave the header out"
    )
    return HttpProblem(400, "bad-event-id", "There is no such event.", detail)
