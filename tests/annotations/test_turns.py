"""What a turn of a conversation is in JSON."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.annotations.stand_ins import read, schema, with_stand_ins
from orchestra.annotations.turns import ROLES, JsonTurn
from orchestra.values import Message


def converted(kind: object, value: object) -> object:
    return msgspec.convert(value, with_stand_ins(kind, JsonTurn), dec_hook=read)


@given(st.lists(st.tuples(st.sampled_from(sorted(ROLES)), st.text(max_size=5)), max_size=4))
def test_what_openais_clients_would_send_is_read(said: list[tuple[str, str]]) -> None:
    turns = [{"role": role, "content": content} for role, content in said]
    found = [Message(ROLES[role], content) for role, content in said]
    assert converted(list[Message], turns) == found
    assert converted(tuple[Message, ...], found) == tuple(found)
    assert set(schema(JsonTurn)["properties"]["role"]["enum"]) == {*ROLES}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("Hi", 'Expected a message, {"role": "user", "content": "..."}'),
        ({"role": "user"}, "Expected a message, "),
        ({"role": "tool", "content": "x"}, "A message's role is one of 'system', .*, not 'tool'"),
        ({"role": ["user"], "content": "x"}, "A message's role is one of "),
        ({"role": "user", "content": [], "name": "x"}, "A message has no member 'name'"),
        (
            {"role": "user", "content": [{"type": "text"}]},
            "content is text here; send images, .*/chat/",
        ),
        ({"role": "assistant", "content": None}, "content is text here"),
    ],
)
def test_what_is_no_turn_is_told(value: Any, message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        converted(Message, value)


def test_which_one_is_wrong_is_told() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"at `\$\[1\]`"):
        converted(list[Message], [{"role": "user", "content": "Hi"}, {"role": "user"}])


def test_of_other_types_it_knows_nothing() -> None:
    assert with_stand_ins(list[str], JsonTurn) == list[str]
    with pytest.raises(NotImplementedError):
        read(int, 1)
    with pytest.raises(NotImplementedError):
        schema(int)
