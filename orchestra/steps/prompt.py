"""`prompt`: text with places to be filled in, for a model."""

from __future__ import annotations

from orchestra.graph.steps import step


@step
def prompt(template: str, /, **parts: object) -> str:
    """The template with every `{name}` replaced by the part of that name.

    Raises:
        KeyError: the template names a part that was not given.
    """
    return template.format_map(parts)
