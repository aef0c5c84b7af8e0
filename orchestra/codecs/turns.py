"""The turns of user and assistant in alternation, as several providers require. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import itemgetter

from orchestra.values import Json, Message, Part


def alternating(
    messages: Sequence[Message], blocks_of: Callable[[tuple[Part, ...]], Iterable[Json]]
) -> list[tuple[str, list[Json]]]:
    """The turns of a conversation: the role of each, `user` or `assistant`, and its blocks.

    Consecutive messages of one side are one turn, and results of tools are on the user's side.
    System messages, and messages without blocks, are left out.
    """
    blocks = [
        ("assistant" if each.role == "assistant" else "user", block)
        for each in messages
        if each.role != "system"
        for block in blocks_of(each.parts)
    ]
    return [(role, [block for _, block in turn]) for role, turn in groupby(blocks, itemgetter(0))]
