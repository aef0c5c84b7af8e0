"""Hedging: from which time on another arm is started, and how often at most. Values only."""

from __future__ import annotations

import re

import attrs

from orchestra.errors import DefinitionError
from orchestra.graph.rules.policy import is_number
from orchestra.graph.source.frames import called_at

SHARE = 0.1
"""Of the races; Google's "tail at scale" hedged at p95, which is 5 %: room for twice that."""
_SPELLED = re.compile(r"p(\d{1,2}(?:\.\d+)?)")


@attrs.frozen
class Hedge:
    """Another arm is started at a quantile of the times to commit of a race's first arm."""

    quantile: float
    """Over 0 and under 1."""
    share: float = SHARE
    """Extra arms for each race, in the long run; over 0 and up to 1."""

    @property
    def at(self) -> str:
        """The quantile as it is usually written: `p95`."""
        return f"p{self.quantile * 100:.10g}"

    def __str__(self) -> str:
        return f"hedge at {self.at}, at most {self.share * 100:.10g} %"


def hedge_rule(hedge_at: object, hedge_share: object) -> Hedge | None:
    """What a race is given as `hedge_at` and `hedge_share`; None where it is given neither.

    Raises:
        DefinitionError: the first is no quantile, or the second no share, or it stands alone.
    """
    if hedge_at is None:
        if hedge_share is not None:
            raise DefinitionError(
                f"{called_at()}: race(hedge_share={hedge_share!r:.80}): it bounds what "
                'hedge_at starts, and there is none: race(a, b, hedge_at="p95", hedge_share=0.1)'
            )
        return None
    quantile = _quantile(hedge_at)
    if quantile is None:
        raise DefinitionError(
            f"{called_at()}: race(hedge_at={hedge_at!r:.80}): it is a quantile of the "
            "times that the first arm took before, and part of the pipeline itself; write "
            'hedge_at="p95", or 0.95: over 0 and under 1. Seconds are stagger_s'
        )
    share = SHARE if hedge_share is None else _number(hedge_share)
    if share is None or not 0 < share <= 1:
        raise DefinitionError(
            f"{called_at()}: race(hedge_share={hedge_share!r:.80}): it is the share of "
            "the races that may start another arm, over 0 and up to 1, and part of the pipeline "
            "itself; write hedge_share=0.1 for one in ten"
        )
    return Hedge(quantile, share)


def stagger(name: str, given: object) -> float:
    """What a construct is given as `stagger_s`.

    Raises:
        DefinitionError: it is no number of seconds.
    """
    if not is_number(given) or given < 0:
        raise DefinitionError(
            f"{called_at()}: {name}(stagger_s={given!r}): stagger_s is the number "
            "of seconds between the starts of two arms, 0 or more, and part of the pipeline "
            "itself: write it as a number"
        )
    return float(given)


def _quantile(given: object) -> float | None:
    if isinstance(given, str):
        spelled = _SPELLED.fullmatch(given)
        number = None if spelled is None else float(f"{spelled[1]}e-2")
    else:
        number = _number(given)
    return number if number is not None and 0 < number < 1 else None


def _number(given: object) -> float | None:
    """A number, and neither a bool nor a wire."""
    return float(given) if is_number(given) else None
