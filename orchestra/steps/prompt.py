"""`prompt`: fills in the placeholders of a template for a model."""

from __future__ import annotations

from orchestra.graph.source.templates import HIDDEN, Template, places_of, unfillable
from orchestra.graph.steps import step


@step
def prompt(template: Template, /, **parts: object) -> str:
    """The template with every `{name}` replaced by the argument of that name.

    `{{` and `}}` stand for braces. A template that is written in the pipeline is checked by
    `check`, too.

    Raises:
        KeyError: the template names an argument that was not given.
        ValueError: the template's braces do not match, or it reads an attribute that begins with an
            underscore.
    """
    for place in places_of(template) if HIDDEN in template else ():
        if place.hidden:
            raise ValueError("; ".join(place.refusal))
    try:
        return template.format_map(parts)
    except (KeyError, ValueError) as error:
        problem = unfillable(places_of(template), parts)
        if problem is None:  # an argument does not support its format
            raise
        raise KeyError(problem) from error
