"""The vectors in the answers of embedding models. Pure."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Sequence

from orchestra.errors import MalformedStreamError
from orchestra.values import Vector

_FLOAT_BYTES = 4


def vectors_of(rows: Iterable[Sequence[float] | str]) -> tuple[Vector, ...]:
    """The vectors in these rows: each is a list of numbers, or float32 numbers in base64.

    Raises:
        MalformedStreamError: a row is neither.
    """
    return tuple(vector_of(row, f"vector {at} of the answer") for at, row in enumerate(rows))


def vector_of(row: Sequence[float] | str, what: str) -> Vector:
    """One vector, read as in `vectors_of`; `what` names it in error messages."""
    try:
        if not isinstance(row, str):
            return Vector.of(row)
        data = b64decode(row, validate=True)
    except (ValueError, OverflowError) as error:
        raise MalformedStreamError(f"{what} is not made of float32 numbers: {error}") from error
    if len(data) % _FLOAT_BYTES:
        raise MalformedStreamError(f"{what} has {len(data)} bytes, which are not float32 numbers")
    return Vector(data)
