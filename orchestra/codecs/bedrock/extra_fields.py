"""`additionalModelRequestFields`: fields of a model family that Converse does not know. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestra.codecs.raw_json import merged
from orchestra.errors import CapabilityError
from orchestra.values import Json

EXTRAS = "bedrock"
"""The key of Bedrock's options in a request's extras."""
NOTHING_ELSE: Mapping[str, object] = {}


def extra_field(
    path: Sequence[str], value: object, beside: Mapping[str, object] = NOTHING_ELSE
) -> Json:
    """The part of a body that sets the field at this path, and those `beside` it."""
    found = value
    for name in reversed(path):
        found = {name: found}
    assert isinstance(found, dict), "a path has a name"
    return {"additionalModelRequestFields": merged(found, beside)}


def unknown_field(model: str, setting: str) -> CapabilityError:
    """The error for a setting such as `top_k=5`, if the field of this model is not known."""
    return CapabilityError(
        f"the field of {model} for {setting} is not known: leave it out, or set the field in a "
        f"pipeline's extras={{{EXTRAS!r}: {{'additionalModelRequestFields': ...}}}}"
    )
