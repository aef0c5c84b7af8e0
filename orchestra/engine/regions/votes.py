"""Votes: which answers agree, and whether a quorum is still possible. Pure.

Answers that agree form a group. An answer is compared with the first of each group and joins
the first group that it agrees with. So every arm is in at most one group, and the size of the
largest group plus the number of waiting arms tells whether a quorum is still possible.
"""

from __future__ import annotations

import attrs

from orchestra.graph.control.agreeing import Agree


@attrs.define
class Votes:
    """The answers so far; `waiting` is the number of arms without an answer or a failure."""

    count: int
    """The number of answers that have to agree."""
    waiting: int
    agree: Agree
    groups: list[list[tuple[str, object]]] = attrs.Factory(list)
    """Arms with their answers, in groups that agree, in the order of arrival."""

    def add(self, arm: str, value: object) -> None:
        """Count an answer. If `agree` raises, nothing is changed.

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
        """The group that is a quorum; at most one, if this is called after every answer."""
        return next((group for group in self.groups if len(group) >= self.count), None)

    def is_impossible(self, idle: int = 0) -> bool:
        """Whether no quorum is possible any more, even if all but `idle` waiting arms agree."""
        return max(map(len, self.groups), default=0) + self.waiting - idle < self.count
