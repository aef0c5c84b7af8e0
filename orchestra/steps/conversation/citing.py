"""Citations of an answer as events of the run: a `step.told` for each of them."""

from __future__ import annotations

import attrs

from orchestra.citations import Cited
from orchestra.protocols import Context

_QUOTE_CHARS, _TITLE_CHARS, _SOURCE_CHARS = 1_200, 200, 1_000
"""The longest texts in an event, so that `Context.tell` never refuses one: its limit is 16 KiB, and
a character takes six bytes at most."""


@attrs.define(eq=False)
class Citing:
    """Tells the citations of several rounds, whose texts are one output.

    `told_chars` is the length of the output so far, `round_chars` that of the round's own text.
    """

    context: Context
    told_chars: int = 0
    round_chars: int = 0

    def said(self, own: str, told: str) -> None:
        """Note a text of the round: as the model wrote it, and as the output has it."""
        self.round_chars += len(own)
        self.told_chars += len(told)

    def tell(self, cited: Cited) -> None:
        """Tell each citation, with places in the output."""
        begin = self.told_chars - self.round_chars
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
