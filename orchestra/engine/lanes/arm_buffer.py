"""The chunks of an arm before its commit.

No reader has seen them, so the arm may still fail and be dropped. The buffer is bounded by
`Limits.held_chunks` and `held_bytes`. An arm that exceeds them before its commit has failed:
committing early would break the rule.
"""

from __future__ import annotations

from orchestra.engine.lanes.output import Output, has_content, size_bytes
from orchestra.errors import EdgeTypeError, LimitExceededError
from orchestra.graph.rules.commits import Chars, Commit
from orchestra.graph.rules.policy import Limits


class ArmBuffer:
    """The chunks of one arm, from its first content until its commit rule is met."""

    __slots__ = ("_arm", "_characters", "_contents", "_limits", "_rule", "_size_bytes", "chunks")

    def __init__(self, arm: str, rule: Commit, limits: Limits) -> None:
        self._arm = arm
        self._rule = rule
        self._limits = limits
        self._contents = 0
        self._characters = 0
        self._size_bytes = 0
        self.chunks: list[object] = []

    def add(self, chunk: object) -> bool:
        """Hold a chunk and return whether the rule is met; leading empty chunks are dropped.

        Raises:
            LimitExceededError: the chunks exceed `held_chunks` or `held_bytes`.
            EdgeTypeError: the rule counts characters, and the chunk has none.
        """
        content = has_content(chunk)
        if not content and not self.chunks:
            return False
        self.chunks.append(chunk)
        self._contents += content
        self._size_bytes += size_bytes(chunk)
        if isinstance(self._rule, Chars):
            self._characters += self._length(chunk)
        if self._rule.reached(self._contents, self._characters):
            return True
        limits = self._limits
        if len(self.chunks) > limits.held_chunks:
            raise self._too_much("held_chunks", limits.held_chunks, "chunks")
        if self._size_bytes > limits.held_bytes:
            raise self._too_much("held_bytes", limits.held_bytes, "bytes")
        return False

    def joined(self, annotation: object) -> object:
        """The held chunks as one value: text or bytes joined, else a list of chunks.

        Raises:
            EdgeTypeError: a chunk cannot be joined with others of its stream.
        """
        output = Output(annotation, self._limits)
        for chunk in self.chunks:
            output.add(chunk)
        return output.joined()

    def _length(self, chunk: object) -> int:
        if chunk is None:
            return 0
        if isinstance(chunk, str | bytes):
            return len(chunk)
        raise EdgeTypeError(
            f"arm {self._arm} gave {chunk!r:.200}, an instance of {type(chunk).__name__}, but "
            f"commit={self._rule} counts characters; use chunks(...) for chunks of other types"
        )

    def _too_much(self, limit: str, value: int, unit: str) -> LimitExceededError:
        return LimitExceededError(
            f"arm {self._arm} gave more than {value} {unit} before commit={self._rule} was met; "
            f"commit earlier, or raise Limits({limit}=...)",
            limit=limit,
        )
