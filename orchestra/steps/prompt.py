"""`prompt`: fills in the places of a template, for a model."""

from __future__ import annotations

from orchestra.graph.source.templates import Template, places_of, unfillable
from orchestra.graph.steps import step


@step
def prompt(template: Template, /, **parts: object) -> str:
    """The template with every `{name}` replaced by the argument of that name.

    `{{` and `}}` are braces. `check` also checks a template that is written in the pipeline.

    Raises:
        KeyError: the template names an argument that was not given.
        ValueError: its braces do not match.
    """
    try:
        return template.format_map(parts)
    except (KeyError, ValueError) as error:
        told = unfillable(places_of(template), parts)
        if told is None:  # an argument refused its format
            raise
        raise KeyError(told) from error
