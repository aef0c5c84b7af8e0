"""A model's reasoning as events of the run: `step.told`, apart from the answer."""

from __future__ import annotations

from collections.abc import Iterable

from orchestra.protocols import Context
from orchestra.values import ModelEvent, ReasoningDelta

_TEXT_CHARS = 2_000
"""The longest text in an event. So `Context.tell` never refuses one: its limit is 16 KiB, and a
character takes at most six bytes."""


def tell_reasoning(context: Context, batch: Iterable[ModelEvent]) -> None:
    """Record the reasoning in a batch of events; usually one event, and none without reasoning."""
    text = "".join(event.text for event in batch if isinstance(event, ReasoningDelta))
    for start in range(0, len(text), _TEXT_CHARS):
        context.tell("reasoning", {"text": text[start : start + _TEXT_CHARS]})
