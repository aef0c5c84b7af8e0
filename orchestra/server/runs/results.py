"""The JSON Schema of a run's result, by its pipeline's annotation. Pure."""

from __future__ import annotations

from typing import Any

from orchestra.annotations.facts import MISSING, chunk_of
from orchestra.annotations.schemas import is_written_as_read, object_schema
from orchestra.annotations.shapes import alternatives, parts, plain, union
from orchestra.failed import Failed
from orchestra.values import Json

JOINED = (str, bytes)
"""Chunks of these are one value at the end; those of all else a list."""


def schema(returns: object) -> Json:
    """The schema of an object whose `result` is what the pipeline gives; `{}` if it is unknown.

    It is of a class that takes other names or types than those of its members, which are written.

    The result of a stream is its chunks joined.
    """
    kind: Any = returns
    chunk: Any = chunk_of(returns)
    if chunk is not None:
        kind = chunk if chunk in JOINED else list[chunk]
    if kind is MISSING or not is_written_as_read(kind):
        return {}
    try:
        return object_schema({"result": kind}, {})
    except TypeError:  # it has no form in JSON, but values of it may
        return _beside_failed(kind)


def _beside_failed(kind: object) -> Json:
    """As `schema`, of a class or a `Failed`, or lists of them; `{}` for all else.

    msgspec cannot decode such a union. It is not decoded here, and clients have its `kind`.
    """
    depth = 0
    while parts(kind)[0] is list:
        depth, kind = depth + 1, parts(kind)[1][0]
    members = [plain(each) for each in alternatives(plain(kind))]
    failed = [each for each in members if parts(each)[0] is Failed]
    if not failed or len(failed) == len(members):
        return {}
    values = union([each for each in members if each not in failed])
    try:
        found = object_schema({"result": values, "failed": union(failed)}, {})
    except TypeError:
        return {}
    told = found["properties"]
    result: Json = {"anyOf": [told["result"], told["failed"]]}
    for _ in range(depth):
        result = {"type": "array", "items": result}
    return found | {"properties": {"result": result}, "required": ["result"]}
