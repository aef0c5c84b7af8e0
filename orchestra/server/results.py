"""What a run gives, as a JSON Schema of its pipeline's annotation. Pure."""

from __future__ import annotations

from typing import Any

from orchestra.annotations.facts import MISSING, chunk_of
from orchestra.annotations.schemas import object_schema
from orchestra.values import Json

JOINED = (str, bytes)
"""Chunks of these are one value at the end; those of all else a list."""


def schema(returns: object) -> Json:
    """The schema of an object whose `result` is what the pipeline gives; `{}` where nobody knows.

    Of a stream, it is the chunks joined.
    """
    kind: Any = returns
    chunk: Any = chunk_of(returns)
    if chunk is not None:
        kind = chunk if chunk in JOINED else list[chunk]
    if kind is MISSING:
        return {}
    try:
        return object_schema({"result": kind}, {})
    except TypeError:  # it has no form in JSON, but values of it may
        return {}
