"""The WebSocket in the document: what its schemas allow is what is read, and what is sent."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestra.events import RunStarted
from orchestra.server.front.ws_messages import (
    CLOSES,
    ID_CHARS_MAX,
    PROTOCOL,
    Mistake,
    event_frame,
    problem_frame,
    read,
)
from orchestra.server.openapi.socket import FRAME, MESSAGE, SCHEMAS
from orchestra.server.responses.problems import HttpProblem, not_found
from tests.server.openapi.test_description import documented, looked_up, operations

KINDS: dict[str, type] = {"string": str, "integer": int, "object": dict, "null": type(None)}


def fits(schema: dict[str, Any], value: Any) -> bool:
    """Whether a value is as a schema says; of an event or a problem, any object will do."""
    schema = SCHEMAS.get(schema.get("$ref", "").rpartition("/")[2], schema)
    if either := schema.get("oneOf") or schema.get("anyOf"):
        return sum(fits(each, value) for each in either) == 1
    if "const" in schema:
        return bool(schema["const"] == value)
    if not isinstance(value, KINDS[schema.get("type", "object")]):
        return False
    if isinstance(value, str):
        return bool(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 99))
    if not isinstance(value, dict) or "properties" not in schema:
        return True
    known = schema["properties"]
    return set(schema["required"]) <= value.keys() <= known.keys() and all(
        fits(known[name], each) for name, each in value.items()
    )


NAMES = st.sampled_from(["a", "x" * ID_CHARS_MAX, "", "x" * (ID_CHARS_MAX + 1), 5, None])
KINDS_OF = st.sampled_from(["start", "cancel", "stop", None])
INPUTS: st.SearchStrategy[Any] = st.sampled_from([{}, {"n": 1}, [], None])
PLAIN = st.fixed_dictionaries(
    {"type": st.sampled_from(["start", "cancel"]), "id": st.just("a")}, optional={"inputs": INPUTS}
)
ANY = st.fixed_dictionaries(
    {}, optional={"type": KINDS_OF, "id": NAMES, "inputs": INPUTS, "x": st.just(1)}
)


@given(PLAIN | ANY)
def test_what_is_told_of_a_message_is_what_is_read(message: dict[str, Any]) -> None:
    assert fits(SCHEMAS[MESSAGE], message) is not isinstance(read(json.dumps(message)), Mistake)


@given(st.sampled_from(["a", None]))
def test_what_is_told_of_a_frame_is_what_is_sent(name: str | None) -> None:
    later = HttpProblem(429, "rate-limited", "", "", headers=(("Retry-After", "7"),))
    frames = [problem_frame(name, not_found("/")), problem_frame(name, later)]
    if name is not None:
        frames.append(event_frame(name, RunStarted(1, 0.0, "r", "p", "r-1"), "r-1"))
    for frame in frames:
        assert fits(SCHEMAS[FRAME], json.loads(frame))
        assert not fits(SCHEMAS[FRAME], {**json.loads(frame), "x": 1})


def test_a_program_finds_both_at_the_handshake() -> None:
    found = documented()
    told = operations(found)["/v1/pipelines/{name}/ws", "get"]["x-websocket"]
    assert looked_up(found, told["client"]["$ref"])["title"] == MESSAGE
    assert looked_up(found, told["server"]["$ref"])["title"] == FRAME
    assert told["subprotocol"] == PROTOCOL
    assert list(told["closes"]) == [str(code) for code in CLOSES]
