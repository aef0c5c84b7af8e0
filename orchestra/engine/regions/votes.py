"""Votes: who agrees with whom, and whether enough still can. Pure.

Answers that agree are a group. An answer is compared with the first of each group and joins
the first that it agrees with, so every arm is in one group at most, and the largest group with
all arms that have said nothing yet tells whether a quorum can still be reached.
"""

from __future__ import annotations

import attrs

from orchestra.graph.control.agreeing import Agree


@attrs.define
class Votes:
    """The answers so far; `waiting` arms have neither said anything nor failed."""

    count: int
    """How many have to agree."""
    waiting: int
    agree: Agree
    groups: list[list[tuple[str, object]]] = attrs.Factory(list)
    """Arms with their answers, those that agree together, in the order in which they came."""

    def add(self, arm: str, value: object) -> None:
        """Count an answer. Nothing has changed if `agree` raises.

        Raises:
            Exception: whatever `agree` raises.
        """
        group = next((each for each in self.groups if self.agree(each[0][1], value)), None)
        self.waiting -= 1
        if group is None:
            self.groups.append([(arm, value)])
        else:
            group.append((arm, value))

    def leave(self) -> None:
        """Count an arm that has failed."""
        self.waiting -= 1

    @property
    def winner(self) -> list[tuple[str, object]] | None:
        """The group that is a quorum; at most one is, where it is asked after every answer."""
        return next((group for group in self.groups if len(group) >= self.count), None)

    def hopeless(self, idle: int = 0) -> bool:
        """Whether no quorum can be reached any more, without so many arms of those that wait."""
        return max(map(len, self.groups), default=0) + self.waiting - idle < self.count
