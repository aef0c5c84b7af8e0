"""Turns alternate, whatever the order of messages, and nothing is lost but system messages."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.turns import alternating
from orchestra.values import Json, Message, Part, Role

ROLES: list[Role] = ["system", "user", "assistant", "tool"]


def blocks_of(parts: tuple[Part, ...]) -> list[Json]:
    return [{"text": word} for part in parts for word in part.text.split()]  # type: ignore[union-attr]


@given(st.lists(st.builds(Message, st.sampled_from(ROLES), st.sampled_from(["", "a", "b c"]))))
def test_turns_alternate_and_keep_all_blocks_in_order(messages: list[Message]) -> None:
    turns = alternating(
        (each.role, blocks_of(each.parts)) for each in messages if each.role != "system"
    )
    assert all(one != other for (one, _), (other, _) in pairwise(turns))
    assert all(blocks for _, blocks in turns)
    assert [(role, block) for role, blocks in turns for block in blocks] == [
        ("assistant" if each.role == "assistant" else "user", block)
        for each in messages
        if each.role != "system"
        for block in blocks_of(each.parts)
    ]
