"""What is said over a WebSocket: messages of a client read, and those of the server written. Pure.

{"type": "start", "id": "a", "inputs": {...}}       a run, under an id that the client chooses
{"type": "cancel", "id": "a"}                       stop it

{"id": "a", "event": {...}}                         an event of it, as in its stream of events
{"id": "a", "problem": {...}}                       it does not begin, as RFC 9457 says why
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import attrs
import msgspec

from orchestra.codecs.invalid_json import invalid_json
from orchestra.event_lines import encode, written
from orchestra.events import Event
from orchestra.server.front.cors import ANY, host_of
from orchestra.server.front.problems import HttpProblem

PROTOCOL = "orchestra.v1"
"""The subprotocol; a client need not name it, but a browser that sends a key has to."""
ID_CHARS_MAX = 64
GOING_AWAY, POLICY, TOO_LARGE, FAILED, IDLE = 1001, 1008, 1009, 1011, 4408
CODES = 4000
"""What the status of a refusal is added to, as a page's socket is closed with it."""
CLOSES: Mapping[int, str] = MappingProxyType(
    {
        GOING_AWAY: "the server stops, or this version of it was replaced; behind the last run",
        POLICY: "the client does not read what is wrong with its messages",
        TOO_LARGE: "a message was too large",
        FAILED: "a fault of the server's; its log says which",
        CODES + 401: "to a page: its key is missing, or not valid; the one frame says why",
        CODES + 402: "to a page: its budget has nothing left",
        CODES + 403: "to a page: its key may not run this pipeline",
        CODES + 404: "to a page: there is no such pipeline",
        IDLE: "nothing went on for a while",
        CODES + 429: "to a page: its rate has nothing left",
        CODES + 503: "to a page: keys cannot be looked up at the moment",
    }
)
"""Why the server closes a socket, by the code that it sends."""
_MEMBERS = {"start": {"type", "id", "inputs"}, "cancel": {"type", "id"}}
_SHAPE = 'send {"type": "start", "id": "a", "inputs": {...}} or {"type": "cancel", "id": "a"}'


@attrs.frozen
class Start:
    """Start a run of the socket's pipeline."""

    id: str
    inputs: Mapping[str, object]


@attrs.frozen
class Cancel:
    """Stop a run; one that has ended, or never was, is left as it is."""

    id: str


@attrs.frozen
class Mistake:
    """A message that means nothing; `id` is None where it has none."""

    id: str | None
    problem: HttpProblem


def read(message: str | bytes) -> Start | Cancel | Mistake:
    """What a client says."""
    if isinstance(message, bytes):
        return _mistake(None, "the message is binary")
    try:
        found = msgspec.json.decode(message)
    except (ValueError, RecursionError) as error:
        return _mistake(None, invalid_json(message.encode(), error, "the message"))
    if not isinstance(found, dict):
        return _mistake(None, "the message is no object")
    return _read(found)


def _read(found: dict[str, Any]) -> Start | Cancel | Mistake:
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
        return _mistake(given, "`inputs` is no object")
    return Start(given, inputs)


def event_frame(run: str, event: Event, request_id: str) -> str:
    """An event of the run with this id; fit for clients already."""
    return f'{{"id":{_quoted(run)},"event":{encode(event, request_id).decode()}}}'


def problem_frame(run: str | None, problem: HttpProblem) -> str:
    """Why the run with this id does not begin, or what a message does not mean."""
    return f'{{"id":{_quoted(run)},"problem":{problem.encode().decode()}}}'


def choose_protocol(offered: Collection[str]) -> str | None:
    """The subprotocol that is answered with: never one that holds a key."""
    return PROTOCOL if PROTOCOL in offered else None


def foreign(origin: str | None, host: str, origins: Collection[str]) -> HttpProblem | None:
    """Why a page of this origin opens no socket here; None if it may.

    Browsers let any page open a WebSocket to any server, and do not ask whether it may.
    """
    if origin is None or origin in origins or ANY in origins or host_of(origin) == host:
        return None
    detail = f"pages of {origin[:100]!r} may open no WebSocket here; see `server.cors.origins`"
    return HttpProblem(403, "foreign-origin", "Your page may not do this.", detail)


def id_in_use(run: str) -> HttpProblem:
    """A start under the id of a run that goes on; that run is not touched."""
    detail = f"the run {run!r} goes on; wait for its last event, or take another id"
    return HttpProblem(409, "id-in-use", "There is a run with this id.", detail)


def too_many_runs(most: int) -> HttpProblem:
    """A start beyond what one socket may have going on."""
    detail = f"{most} runs go on over this socket; wait for one of them to end"
    return HttpProblem(429, "too-many-runs", "The socket is full.", detail)


def _quoted(run: str | None) -> str:
    return written(run).decode()


def _mistake(run: str | None, detail: str) -> Mistake:
    problem = HttpProblem(400, "bad-message", "The message means nothing.", f"{detail}; {_SHAPE}")
    return Mistake(run, problem)
