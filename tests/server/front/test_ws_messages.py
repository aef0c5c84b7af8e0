"""Messages of WebSockets: any at all is one that is known, or a mistake that says so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.events import Delta
from orchestra.server.front.ws_messages import (
    ID_CHARS_MAX,
    Cancel,
    Mistake,
    Start,
    choose_protocol,
    event_frame,
    foreign,
    problem_frame,
    read,
)
from orchestra.server.responses.problems import HttpProblem, not_found

ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=ID_CHARS_MAX)
values = st.dictionaries(st.text(max_size=8), st.integers(-9, 9) | st.text(max_size=8), max_size=3)


@given(ids, values)
def test_a_start_and_a_cancel_are_what_they_say(name: str, inputs: dict[str, object]) -> None:
    assert read(json.dumps({"type": "start", "id": name, "inputs": inputs})) == Start(name, inputs)
    assert read(json.dumps({"type": "cancel", "id": name})) == Cancel(name)


values_: list[object] = ["start", "cancel", "a", "", 5, None, {}, {"count": 1}, [], "x" * 65]
members = st.dictionaries(
    st.sampled_from(["type", "id", "inputs", "x"]),
    st.sampled_from(values_),
)


@given(members.map(json.dumps) | st.text() | st.binary())
def test_any_message_at_all_is_one_or_a_mistake_that_shows_how(message: str | bytes) -> None:
    found = read(message)
    if isinstance(found, Mistake):
        assert found.problem.detail.endswith('or {"type": "cancel", "id": "a"}')
        assert found.id is None or len(found.id) <= ID_CHARS_MAX
    else:
        assert isinstance(message, str)
        assert json.loads(message)["id"] == found.id


@given(ids | st.none())
def test_a_frame_is_one_object_under_its_id(name: str | None) -> None:
    event = json.loads(event_frame(name or "a", Delta(5, 0.5, "x"), "r-1"))
    assert event == {
        "id": name or "a",
        "event": {"type": "delta", "request_id": "r-1", "seq": 5, "at_s": 0.5, "chunk": "x"},
    }
    problem = json.loads(problem_frame(name, not_found("/x")))
    assert (problem["id"], problem["problem"]["status"]) == (name, 404)
    assert problem.keys() == {"id", "problem"}


def test_a_frame_says_when_to_try_again() -> None:
    later = HttpProblem(429, "rate-limited", "", "", headers=(("Retry-After", "7"),))
    assert json.loads(problem_frame("a", later))["retry_after_s"] == 7


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        (b"{}", "the message is binary"),
        ("{", "the message is not JSON"),
        (
            '{"type": "cancel", "id": "\\ud83e"}',
            "the message is not JSON: \\ud83e is half of a character; send both halves",
        ),
        ("[" * 100_000, "the message is nested too deeply"),
        ("5", "the message is not an object"),
        ("{}", "`id` is not a string"),
        ('{"id": ""}', "`id` is not a string"),
        ('{"id": "a", "type": ["start"]}', "`type` is ['start']"),
        ('{"id": "a", "type": "start", "input": {}}', "there is no member 'input'"),
        ('{"id": "a", "type": "cancel", "inputs": {}}', "there is no member 'inputs'"),
        ('{"id": "a", "type": "start", "inputs": []}', "`inputs` is not an object"),
    ],
)
def test_a_mistake_says_what_it_is(message: str | bytes, detail: str) -> None:
    found = read(message)
    assert isinstance(found, Mistake)
    assert found.problem.detail.startswith(detail)


def test_a_key_is_never_answered_with() -> None:
    assert choose_protocol(["orchestra.bearer.ork_1", "orchestra.v1"]) == "orchestra.v1"
    assert choose_protocol(["orchestra.bearer.ork_1"]) is None


@pytest.mark.parametrize(
    ("origin", "origins", "opens"),
    [
        (None, [], True),
        ("http://here:8000", [], True),
        ("https://here:8000", [], True),
        ("http://here", [], False),
        ("http://there", [], False),
        ("http://there", ["http://there"], True),
        ("http://there", ["*"], True),
        ("null", [], False),
        ("", [], False),
        ("http://[", [], False),
    ],
)
def test_only_pages_from_here_or_that_are_named_open_sockets(
    origin: str | None, origins: list[str], opens: Any
) -> None:
    assert (foreign(origin, "here:8000", origins) is None) == opens
