"""`orchestra draw`: the graph of a pipeline."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

from orchestra.cli import terminal
from orchestra.cli.loading import load

Form: TypeAlias = Literal["text", "mermaid", "json"]


def draw(target: str, /, *, form: Annotated[Form, Parameter(name="format")] = "text") -> int:
    """Print a pipeline's graph.

    Parameters
    ----------
    target
        MODULE[:PIPELINE], such as `pipelines.answer` or `pipelines/answer.py:answer`.
    form
        For a person, for a Mermaid block in Markdown, or for a program.
    """
    from orchestra.compiler import draw as drawing

    pipeline = load(target)
    if form == "json":
        terminal.say_json(drawing.as_json(pipeline))
    else:
        terminal.say(drawing.as_text(pipeline) if form == "text" else drawing.as_mermaid(pipeline))
    return 0
