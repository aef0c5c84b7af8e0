"""The messages of the WebSocket: reads those of clients, and writes the server's. Pure.

{"type": "start", "id": "a", "inputs": {...}}       start a run, under an id that the client chooses
{"type": "start", ..., "tags": {"team": "search"}}  the same, with tags
{"type": "start", ..., "return": "minimal"}         the same, without the result after a stream
{"type": "cancel", "id": "a"}                       cancel the run

{"id": "a", "event": {...}}                         an event of the run, as in a stream of events
{"id": "a", "problem": {...}}                       why the run does not start (RFC 9457)
{"id": "a", "problem": {...}, "retry_after_s": 3}   the same, if it may start later
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import attrs
import msgspec

from orchestra.codecs.raw_json import invalid_json
from orchestra.computed import LARGE_BYTES
from orchestra.event_lines import encode, written
from orchestra.events import Event
from orchestra.server.front.cors import ANY
from orchestra.server.front.keyless import foreign_page, may_ask
from orchestra.server.responses.caller_problems import bad_tags
from orchestra.server.responses.problems import HttpProblem
from orchestra.tags import NO_TAGS, Tags, fault_of

PROTOCOL = "orchestra.v1"
"""The subprotocol; optional, except for a browser that sends a key."""
ID_CHARS_MAX = 64
GOING_AWAY, POLICY, TOO_LARGE, FAILED, IDLE = 1001, 1008, 1009, 1011, 4408
CODES = 4000
"""The base of the close codes for refused pages; the HTTP status is added to it."""
CLOSES: Mapping[int, str] = MappingProxyType(
    {
        GOING_AWAY: "the server stops, or was reloaded; sent after the last run of the socket",
        1002: "a frame violates the protocol of WebSockets; the reason says how",
        1007: "a message is not UTF-8",
        POLICY: "the client does not read the problems that its messages cause",
        TOO_LARGE: "a message was too large",
        FAILED: "the server failed; its log says why",
        CODES + 401: "to a page: its key is missing, or not valid; the one frame says why",
        CODES + 402: "to a page: its budget is used up",
        CODES + 403: "to a page: its key may not run this pipeline",
        CODES + 404: "to a page: there is no such pipeline",
        IDLE: "there was no run and no message for a while",
        CODES + 429: "to a page: it has reached a rate limit",
        CODES + 503: "to a page: keys cannot be looked up at the moment",
    }
)
"""The reasons for which the server closes a socket, by close code."""
RETURNS = ("representation", "minimal")
"""What a `start` may ask for as `return`, as in `Prefer` (RFC 7240); the first is the default."""
_MEMBERS = {"start": {"type", "id", "inputs", "tags", "return"}, "cancel": {"type", "id"}}
_SHAPE = 'send {"type": "start", "id": "a", "inputs": {...}} or {"type": "cancel", "id": "a"}'


@attrs.frozen
class Start:
    """Start a run of the socket's pipeline; `large` says whether the message is large.

    `minimal`: the result after a stream, which repeats its chunks, is to be left out.
    """

    id: str
    inputs: Mapping[str, object]
    tags: Tags = NO_TAGS
    large: bool = False
    minimal: bool = False


@attrs.frozen
class Cancel:
    """Cancel a run; ignored if it has ended, or does not exist."""

    id: str


@attrs.frozen
class Mistake:
    """An invalid message; `id` is None if no valid id could be read."""

    id: str | None
    problem: HttpProblem


def read(message: str | bytes) -> Start | Cancel | Mistake:
    """The meaning of a client's message."""
    if isinstance(message, bytes):
        return _mistake(None, "the message is binary")
    try:
        found = msgspec.json.decode(message)
    except (ValueError, RecursionError) as error:
        return _mistake(None, invalid_json(message.encode(), error, "the message"))
    if not isinstance(found, dict):
        return _mistake(None, "the message is not an object")
    return _read(found, large=len(message) > LARGE_BYTES)


def _read(found: dict[str, Any], *, large: bool) -> Start | Cancel | Mistake:
    given, kind, inputs = found.get("id"), found.get("type"), found.get("inputs", {})
    if not isinstance(given, str) or not 0 < len(given) <= ID_CHARS_MAX:
        return _mistake(None, f"`id` is not a string of 1 to {ID_CHARS_MAX} characters")
    if not isinstance(kind, str) or kind not in _MEMBERS:
        return _mistake(given, f"`type` is {kind!r:.100}")
    if stray := sorted(found.keys() - _MEMBERS[kind]):
        return _mistake(given, f"there is no member {stray[0]!r:.100} in a message of {kind!r}")
    if kind == "cancel":
        return Cancel(given)
    if not isinstance(inputs, dict):
        return _mistake(given, "`inputs` is not an object")
    if fault := fault_of(tags := found.get("tags", NO_TAGS)):
        return Mistake(given, bad_tags(f"`tags`: {fault}"))
    if (wanted := found.get("return", RETURNS[0])) not in RETURNS:
        return _mistake(given, f"`return` is {wanted!r:.100}, and not one of {', '.join(RETURNS)}")
    return Start(given, inputs, tags, large, minimal=wanted == "minimal")


def event_frame(run: str, event: Event, request_id: str) -> str:
    """The frame of an event of the run with this id; the event is already fit for clients."""
    return f'{{"id":{_quoted(run)},"event":{encode(event, request_id).decode()}}}'


def problem_frame(run: str | None, problem: HttpProblem) -> str:
    """The frame of a problem: the run with this id does not start, or a message is invalid."""
    return refusal_frame(run, problem.encode(), problem.headers)


def refusal_frame(run: str | None, problem: bytes, headers: Iterable[tuple[str, str]]) -> str:
    """The frame of an encoded problem; with the seconds in the header `Retry-After`, if any."""
    waits = [value for name, value in headers if name.lower() == "retry-after"]
    later = f',"retry_after_s":{waits[0]}' if waits else ""
    return f'{{"id":{_quoted(run)},"problem":{problem.decode()}{later}}}'


def choose_protocol(offered: Collection[str]) -> str | None:
    """The subprotocol for the answer to a handshake: never one with a key."""
    return PROTOCOL if PROTOCOL in offered else None


def foreign(origin: str | None, host: str, origins: Collection[str]) -> HttpProblem | None:
    """The problem if pages of this origin may not open a WebSocket here, else None.

    Browsers let any page open a WebSocket to any server, without a preflight.
    """
    if ANY in origins or may_ask(origin, None, host, origins):
        return None
    return foreign_page(origin, "may open no WebSocket here")


def id_in_use(run: str) -> HttpProblem:
    """A start with the id of a run in flight, which is not affected."""
    detail = f"the run {run!r} is in flight; wait for its last event, or use another id"
    return HttpProblem(409, "id-in-use", "There is a run with this id.", detail)


def too_many_runs(most: int) -> HttpProblem:
    """A start above the limit of one socket's runs in flight."""
    detail = f"this socket may have {most} runs at once; wait for one of them to end"
    return HttpProblem(429, "too-many-runs", "The socket has too many runs.", detail)


def _quoted(run: str | None) -> str:
    return written(run).decode()


def _mistake(run: str | None, detail: str) -> Mistake:
    problem = HttpProblem(400, "bad-message", "The message is not valid.", f"{detail}; {_SHAPE}")
    return Mistake(run, problem)
