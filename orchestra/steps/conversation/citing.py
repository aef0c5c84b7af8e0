"""The citations of an answer as events of the run: a `step.told` for each of them."""

from __future__ import annotations

import attrs

from orchestra.citations import Cited
from orchestra.protocols import Context

_QUOTE_CHARS, _TITLE_CHARS, _SOURCE_CHARS = 1_200, 200, 1_000
"""The longest texts in an event. So `Context.tell` never refuses one: its limit is 16 KiB, and a
character takes at most six bytes."""


@attrs.define(eq=False)
class Citing:
    """Records the citations of several rounds, whose texts are one output.

    `output_chars` is the length of the output so far, `round_chars` the length of the text of the
    current round.
    """

    context: Context
    output_chars: int = 0
    round_chars: int = 0

    def note(self, own: str, output: str) -> None:
        """Note a text of the round, as the model wrote it (`own`) and as the output has it."""
        self.round_chars += len(own)
        self.output_chars += len(output)

    def tell(self, cited: Cited) -> None:
        """Record each citation, with its position in the output."""
        begin = self.output_chars - self.round_chars
        for each in cited.citations:
            placed = attrs.evolve(
                each,
                start=each.start + begin,
                end=each.end + begin,
                quote=each.quote[:_QUOTE_CHARS],
                title=each.title[:_TITLE_CHARS],
                source=each.source[:_SOURCE_CHARS],
            )
            self.context.tell("citation", attrs.asdict(placed))
