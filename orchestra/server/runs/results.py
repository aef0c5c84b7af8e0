"""The JSON Schema of a run's result, from the annotation of its pipeline. Pure."""

from __future__ import annotations

from typing import Any

from orchestra.annotations.facts import MISSING, chunk_of
from orchestra.annotations.pydantic_models import is_model, written_schema
from orchestra.annotations.schemas import is_written_as_read, object_schema, require_written
from orchestra.annotations.shapes import alternatives, class_of, parts, plain, union
from orchestra.failed import Failed
from orchestra.values import Json

JOINED = (str, bytes)
"""The types of chunks whose stream results in one joined value; other chunks result in a list."""


def schema(returns: object) -> Json:
    """The schema of an object whose `result` is that of the pipeline; `{}` if it is unknown.

    It is unknown without an annotation, for a type that has no form in JSON, and for a class that
    is not written as it is read (one that takes other names or types than its fields have). Of a
    Pydantic model, and of lists of one, Pydantic knows how it is written.

    The result of a stream is its chunks, joined.
    """
    kind: Any = returns
    chunk: Any = chunk_of(returns)
    if chunk is not None:
        kind = chunk if chunk in JOINED else list[chunk]
    if kind is MISSING or not is_written_as_read(kind):
        return _of_model(kind)
    try:
        found = object_schema({"result": kind}, {})
    except TypeError:  # the type has no schema, but its values may still have a form in JSON
        found = _beside_failed(kind)
    require_written(found, kind)
    return found


def _of_model(kind: object) -> Json:
    """Like `schema`, for a Pydantic model, or lists of one; `{}` for all other types."""
    depth, kind = _item(kind)
    cls = class_of(kind)
    result = written_schema(cls) if is_model(cls) else {}
    defs = result.pop("$defs", {})
    if not result:
        return {}
    found = {"type": "object", "properties": {"result": _list(depth, result)}}
    return found | {"required": ["result"]} | ({"$defs": defs} if defs else {})


def _beside_failed(kind: object) -> Json:
    """Like `schema`, for a union with `Failed`, or lists of such; `{}` for all other types.

    msgspec rejects such a union, since it cannot decode it. Nothing is decoded here, and clients
    can tell the members apart by `kind`.
    """
    depth, kind = _item(kind)
    members = [plain(each) for each in alternatives(plain(kind))]
    failed = [each for each in members if parts(each)[0] is Failed]
    if not failed or len(failed) == len(members):
        return {}
    values = union([each for each in members if each not in failed])
    try:
        found = object_schema({"result": values, "failed": union(failed)}, {})
    except TypeError:
        return {}
    properties = found["properties"]
    result = _list(depth, {"anyOf": [properties["result"], properties["failed"]]})
    return found | {"properties": {"result": result}, "required": ["result"]}


def _item(kind: object) -> tuple[int, object]:
    """How many lists are around an annotation, and what is in them."""
    depth, kind = 0, plain(kind)
    while parts(kind)[0] is list and (given := parts(kind)[1]):
        depth, kind = depth + 1, plain(given[0])
    return depth, kind


def _list(depth: int, schema: Json) -> Json:
    """The schema of so many lists around values of this schema."""
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema
