"""Hedging: when a race starts another arm, and how often at most. Values only."""

from __future__ import annotations

import re

from orchestra.errors import DefinitionError
from orchestra.eventclass import frozen
from orchestra.graph.rules.policy import is_number
from orchestra.graph.source.frames import called_at

SHARE = 0.1
"""Google's "The Tail at Scale" hedges at p95, so 5 % of the requests; this is twice that."""
_SPELLED = re.compile(r"p(\d{1,2}(?:\.\d+)?)")


@frozen
class Hedge:
    """Start another arm at a quantile of the times to commit of the race's first arm."""

    quantile: float
    """Over 0 and under 1."""
    share: float = SHARE
    """Extra arms per race in the long run; over 0 and up to 1."""

    @property
    def at(self) -> str:
        """The quantile as it is usually written: `p95`."""
        return f"p{self.quantile * 100:.10g}"

    def __str__(self) -> str:
        return f"hedge at {self.at}, at most {self.share * 100:.10g} %"


def hedge_rule(hedge_at: object, hedge_share: object) -> Hedge | None:
    """The rule for a race's `hedge_at` and `hedge_share`; None if neither is given.

    Raises:
        DefinitionError: the first is not a quantile, the second not a share, or only the
            second is given.
    """
    if hedge_at is None:
        if hedge_share is not None:
            raise DefinitionError(
                f"{called_at()}: race(hedge_share={hedge_share!r:.80}): it limits hedge_at, which "
                'is not given: race(a, b, hedge_at="p95", hedge_share=0.1)'
            )
        return None
    quantile = _quantile(hedge_at)
    if quantile is None:
        raise DefinitionError(
            f"{called_at()}: race(hedge_at={hedge_at!r:.80}): hedge_at must be a quantile of the "
            "first arm's earlier times to commit, known when the pipeline is defined; write "
            'hedge_at="p95", or 0.95: over 0 and under 1. A delay in seconds is stagger_s'
        )
    share = SHARE if hedge_share is None else hedge_share
    if not is_number(share) or not 0 < share <= 1:
        raise DefinitionError(
            f"{called_at()}: race(hedge_share={hedge_share!r:.80}): hedge_share must be the share "
            "of races that may start another arm, over 0 and up to 1, known when the pipeline is "
            "defined; write hedge_share=0.1 for one in ten"
        )
    return Hedge(quantile, float(share))


def stagger(name: str, given: object) -> float:
    """A construct's `stagger_s`, checked.

    Raises:
        DefinitionError: it is not a number of seconds, 0 or more.
    """
    if not is_number(given) or given < 0:
        raise DefinitionError(
            f"{called_at()}: {name}(stagger_s={given!r}): stagger_s must be the "
            "number of seconds between the starts of two arms, 0 or more, known when the pipeline "
            "is defined: write it as a number"
        )
    return float(given)


def _quantile(given: object) -> float | None:
    if isinstance(given, str):
        spelled = _SPELLED.fullmatch(given)
        given = None if spelled is None else float(f"{spelled[1]}e-2")
    return float(given) if is_number(given) and 0 < given < 1 else None
