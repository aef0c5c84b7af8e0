"""The spans of a run as a tree for people, each with a time bar and its cost. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from orchestra.cli.run_views import duration
from orchestra.observe.spans import Span, SpanEvent

BAR = 24
"""The width of the whole run's bar, in characters."""
_CENT = 0.01
_PAID = ("call", "run")
_ABOUT = ("arm", "route", "model", "budget", "error")


def waterfall(spans: Sequence[Span]) -> list[str]:
    """A line for each span, children below their parents in the order in which they began."""
    if not spans:
        return []
    total_s = max(spans[0].ended_s - spans[0].began_s, 1e-9)
    rows = [(depth, span) for depth, span in _in_order(spans)]
    names = [f"{'  ' * depth}{_name(span)}" for depth, span in rows]
    width = max(map(len, names))
    return [
        f"{name:<{width}}  {_bar(span, total_s)}  {_facts(span)}".rstrip()
        for name, (_, span) in zip(names, rows, strict=True)
    ]


def _in_order(spans: Sequence[Span]) -> Iterator[tuple[int, Span]]:
    within: dict[int | None, list[int]] = {}
    for at, span in enumerate(spans):
        within.setdefault(span.parent, []).append(at)
    left = [(0, at) for at in within.pop(None)]
    while left:
        depth, at = left.pop()
        yield depth, spans[at]
        below = sorted(within.get(at, []), key=lambda one: spans[one].began_s, reverse=True)
        left += [(depth + 1, one) for one in below]


def _name(span: Span) -> str:
    if span.kind == "call":
        return f"-> {span.attributes['orchestra.model']}"
    if span.kind == "tool":
        return f"-> {span.attributes['gen_ai.tool.name']}()"
    return span.path.rpartition("/")[2] if span.path else span.name.partition(" ")[2]


def _bar(span: Span, total_s: float) -> str:
    begin = min(int(span.began_s / total_s * BAR), BAR - 1)
    end = max(begin + 1, min(round(span.ended_s / total_s * BAR), BAR))
    return f"|{'.' * begin}{'#' * (end - begin)}{'.' * (BAR - end)}|"


def _facts(span: Span) -> str:
    """The facts about a span, shortest first."""
    attributes, found = span.attributes, [f"{duration(span.ended_s - span.began_s):>8}"]
    first_s = attributes.get("gen_ai.response.time_to_first_chunk")
    if first_s is None:
        first_s = attributes.get("orchestra.time_to_first_chunk_s")
    if isinstance(first_s, float):
        found.append(f"first {duration(first_s)}")
    if span.kind == "call" and "gen_ai.usage.input_tokens" in attributes:
        read, written = (
            attributes["gen_ai.usage.input_tokens"],
            attributes["gen_ai.usage.output_tokens"],
        )
        found.append(f"{read} -> {written} tokens")
    cost = attributes.get("orchestra.cost_dollars")
    if span.kind in _PAID and isinstance(cost, float) and cost:
        found.append(_dollars(cost))
    if attributes.get("orchestra.unpriced"):
        found.append("price unknown")
    found += map(_event_text, span.events)
    status = attributes.get("orchestra.status", "")
    if status not in {"", "finished"}:
        found.append(f"{status}: {span.error}" if span.error else str(status))
    return "  ".join(found)


def _dollars(cost: float) -> str:
    """An amount without an exponent: two digits if it is less than a cent."""
    return f"${cost:.4f}" if cost >= _CENT else f"${Decimal(f'{cost:.2g}'):f}"


def _event_text(event: SpanEvent) -> str:
    """An event's type, and its arm, model or error."""
    about = [event.attributes.get(f"orchestra.{name}") for name in _ABOUT]
    return " ".join([event.name, *(str(each) for each in about if each)])
