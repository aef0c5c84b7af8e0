"""The turns of user and assistant in alternation, as several providers require. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from orchestra.values import Json, Role


def alternating(messages: Iterable[tuple[Role, Iterable[Json]]]) -> list[tuple[str, list[Json]]]:
    """The turns of a conversation: the role of each, `user` or `assistant`, and its blocks.

    `messages` has the role and the blocks of each message but system messages. Consecutive messages
    of one side are one turn, results of tools are on the user's side, and messages without blocks
    are left out.
    """
    turns: list[tuple[str, list[Json]]] = []
    for role, several in messages:
        side, blocks = "assistant" if role == "assistant" else "user", list(several)
        if blocks and turns and turns[-1][0] == side:
            turns[-1][1].extend(blocks)
        elif blocks:
            turns.append((side, blocks))
    return turns
