"""`prompt`: text with places to be filled in, for a model."""

from __future__ import annotations

from orchestra.graph.source.templates import Template, places_of, unfillable
from orchestra.graph.steps import step


@step
def prompt(template: Template, /, **parts: object) -> str:
    """The template with every `{name}` replaced by the part of that name.

    `{{` and `}}` are braces. A template that is known to the pipeline is checked with it.

    Raises:
        KeyError: the template names a part that was not given.
        ValueError: it is no template.
    """
    try:
        return template.format_map(parts)
    except (KeyError, ValueError) as error:
        told = unfillable(places_of(template), parts)
        if told is None:  # a part itself has refused its format
            raise
        raise KeyError(told) from error
