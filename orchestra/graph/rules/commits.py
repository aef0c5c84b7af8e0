"""Commit rules: how much an arm must have produced before a race or fallback commits to it.

Values only. Counting begins with the first chunk that has content. An arm that ends without
an error commits at its end at the latest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from orchestra.errors import DefinitionError
from orchestra.graph.rules.policy import is_count
from orchestra.graph.source.frames import called_at


@attrs.frozen(repr=False)
class FirstContent:
    """Commits at the first chunk that is not empty."""

    def reached(self, chunks: int, characters: int) -> bool:  # noqa: ARG002 - as the others
        """Whether this much content is enough."""
        return chunks > 0

    def __repr__(self) -> str:
        return "first_content()"


@attrs.frozen(repr=False)
class Chunks:
    """Commits at this many chunks that are not empty."""

    count: int

    def reached(self, chunks: int, characters: int) -> bool:  # noqa: ARG002 - as the others
        """Whether this much content is enough."""
        return chunks >= self.count

    def __repr__(self) -> str:
        return f"chunks({self.count})"


@attrs.frozen(repr=False)
class Chars:
    """Commits at this many characters of text, or at this many bytes."""

    count: int

    def reached(self, chunks: int, characters: int) -> bool:  # noqa: ARG002 - as the others
        """Whether this much content is enough."""
        return characters >= self.count

    def __repr__(self) -> str:
        return f"chars({self.count})"


@attrs.frozen(repr=False)
class Complete:
    """Commits when the arm has ended without an error, and never before."""

    def reached(self, chunks: int, characters: int) -> bool:  # noqa: ARG002 - as the others
        """Whether this much content is enough: it never is."""
        return False

    def __repr__(self) -> str:
        return "complete()"


Commit: TypeAlias = FirstContent | Chunks | Chars | Complete
Validate: TypeAlias = Callable[[object], object]
"""Whether the output of an arm so far is good enough to commit to the arm."""
FIRST_CONTENT = FirstContent()


def first_content() -> FirstContent:
    """Commit to an arm at its first chunk that is not empty. This is the default."""
    return FIRST_CONTENT


def chunks(count: int) -> Chunks:
    """Commit to a streaming arm at its chunk number `count`; empty chunks are not counted.

    An arm that ends before that without an error is committed to at its end.

    Raises:
        DefinitionError: `count` is not a whole number, or is less than 1.
    """
    return Chunks(_counted("chunks", count))


def chars(count: int) -> Chars:
    """Commit to a streaming arm after `count` characters of text, or `count` bytes.

    An arm that ends before that without an error is committed to at its end.

    Raises:
        DefinitionError: `count` is not a whole number, or is less than 1.
    """
    return Chars(_counted("chars", count))


def complete() -> Complete:
    """Commit to an arm when it has ended without an error: none of its output is seen before."""
    return Complete()


def _counted(name: str, count: object) -> int:
    if not is_count(count):
        raise DefinitionError(
            f"{called_at()}: {name}({count!r:.80}): the number of {name} that commit to an arm "
            f"must be a whole number, 1 or more, known when the pipeline is defined: {name}(8)"
        )
    return count
