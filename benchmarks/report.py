"""The results: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from benchmarks.measure import OURS, Figure, Outcome, Spread

BEGIN = "<!-- figures: written by run.py --publish -->"
END = "<!-- end of figures -->"

if TYPE_CHECKING:
    from pathlib import Path


def table(outcome: Outcome) -> str:
    """One experiment as text: each contender's median, quartiles, best, and our ratio to it."""
    experiment = outcome.experiment
    lines = [f"{experiment.name}: {experiment.question} ({experiment.unit})"]
    lines += [_line(name, figure) for name, figure in outcome.figures.items()]
    lines += [f"  {name:<16} absent: {why}" for name, why in outcome.absent.items()]
    if experiment.target is not None:
        verdict = {True: "met", False: "MISSED", None: "not measured"}[outcome.met]
        lines.append(f"  target for {OURS}: <= {experiment.target:g}, {verdict}")
    return "\n".join(lines)


def _line(name: str, figure: Figure) -> str:
    spread = figure.spread
    seen = ", ".join(f"{key} {value:,.2f}" for key, value in figure.seen.items())
    ratio = "" if figure.ratio is None else f"ours is {figure.ratio.median:.2f}x of it"
    numbers = f"{spread.median:>10.2f}  [{spread.low:.2f} - {spread.high:.2f}]"
    return f"  {name:<16}{numbers:<34} best {spread.best:<9.2f} {ratio:<22} {seen}".rstrip()


def markdown(outcomes: Sequence[Outcome], machine: Mapping[str, object]) -> str:
    """All experiments as one Markdown table, with the machine under it."""
    rows = ["| what | target | orchestra | beside it |", "|---|---|---|---|"]
    rows += [_row(outcome) for outcome in outcomes]
    keys = ("cpu", "cores", "memory_gb", "system", "python", "at", "commit", "load_before")
    about = ", ".join(f"{key} {machine[key]}" for key in keys)
    return "\n".join([*rows, "", f"Measured on: {about}."])


def _row(outcome: Outcome) -> str:
    experiment = outcome.experiment
    ours = outcome.figures.get(OURS)
    mine = "not measured" if ours is None else _cell(ours)
    peers = [
        f"{name} {_cell(figure)}" + ("" if figure.ratio is None else _times(figure.ratio))
        for name, figure in outcome.figures.items()
        if name != OURS
    ]
    target = "" if experiment.target is None else f"{experiment.target:g}"
    verdict = {True: "", False: " **missed**", None: ""}[outcome.met]
    what = f"`{experiment.name}`: {experiment.question}; {experiment.unit}"
    return f"| {what} | {target} | {mine}{verdict} | {'<br>'.join(peers)} |"


def _cell(figure: Figure) -> str:
    spread = figure.spread
    return f"{spread.median:.3g} ({spread.low:.3g} to {spread.high:.3g})"


def _times(ratio: Spread) -> str:
    return f", ours is {ratio.median:.2g}x"


def publish(readme: Path, table: str) -> None:
    """Put the table between the marks in the README."""
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{readme} has no {BEGIN} ... {END} to put the figures between")
    readme.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def document(
    outcomes: Sequence[Outcome],
    machine: Mapping[str, object],
    linearity: Mapping[str, float],
    took_s: float,
) -> dict[str, object]:
    """Everything that was found, as plain JSON."""
    return {
        "machine": machine,
        "took_s": round(took_s, 1),
        "experiments": {outcome.experiment.name: _plain(outcome) for outcome in outcomes},
        "linearity": linearity,
    }


def _plain(outcome: Outcome) -> dict[str, object]:
    experiment = outcome.experiment
    return {
        "question": experiment.question,
        "unit": experiment.unit,
        "target": experiment.target,
        "met": outcome.met,
        "figures": {name: attrs.asdict(figure) for name, figure in outcome.figures.items()},
        "absent": dict(outcome.absent),
    }


def write(path: Path, found: Mapping[str, object]) -> None:
    """Write what was found as JSON, with numbers that a person can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(found), indent=2) + "\n", encoding="utf-8")


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    return value


def failures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Why a continuous build should fail: ours has no figure. A missed target is published."""
    for outcome in outcomes:
        if OURS in outcome.absent:
            yield f"{outcome.experiment.name}: {outcome.absent[OURS]}"
