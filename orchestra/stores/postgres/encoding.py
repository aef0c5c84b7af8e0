"""Encodes values for Postgres, and decodes them. Pure.

A text in Postgres may contain every character except NUL, which is encoded as two other characters,
in a way that preserves the order of texts. Metadata is `jsonb`, whose numbers are decimal and of
any length: whole numbers are written with all their digits, since `1e300` would come back as
another number. In Python, `1`, `1.0` and `True` are equal, but in `jsonb`, `true` is not equal to
the others: so a query for one of them asks for `true` and `1`, and likewise for `false` and `0`.
"""

from __future__ import annotations

import json
import math
import re
import struct
from array import array
from collections.abc import Mapping

from orchestra.surrogates import is_utf8
from orchestra.values import Metadata, Passage, Scalar, Vector

_KEPT = re.compile("\1([\1\2])")


def kept(text: str) -> str:
    """Encode a text for Postgres: without NUL, and with the order of texts unchanged."""
    if "\0" in text or "\1" in text:
        return text.replace("\1", "\1\2").replace("\0", "\1\1")
    return text


def restored(text: str) -> str:
    """Decode a stored text."""
    return _KEPT.sub(lambda found: "\0" if found[1] == "\1" else "\1", text)


def metadata_json(metadata: Mapping[str, Scalar]) -> str:
    """Encode metadata as `jsonb`."""
    pairs = (f"{_string(key)}:{_scalar(value)}" for key, value in metadata.items())
    return f"{{{','.join(pairs)}}}"


def metadata_of(stored: Mapping[str, Scalar]) -> Metadata:
    """Decode stored metadata."""
    return {restored(key): restored_scalar(value) for key, value in stored.items()}


def restored_scalar(value: Scalar) -> Scalar:
    """Decode a stored metadata value."""
    return restored(value) if isinstance(value, str) else value


def passage_of(
    name: str, text: str, source: str, score: float, metadata: Mapping[str, Scalar]
) -> Passage:
    """Decode a passage that was found, from the columns of its row."""
    return Passage(restored(name), restored(text), restored(source), score, metadata_of(metadata))


def equals(key: str, value: object) -> list[str]:
    """The `jsonb` objects to search for, so that metadata with an equal value contains one of them.

    Empty if no metadata can have such a value.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return []
    if value is not None and not isinstance(value, str | int | float):
        return []
    alike: tuple[Scalar, ...] = (value,)
    if isinstance(value, int | float) and value in (0, 1):
        alike = (int(value), bool(value))
    try:
        found = [metadata_json({key: each}) for each in alike]
    except ValueError:  # an integer with more digits than Python converts
        return []
    return [each for each in found if is_utf8(each)]


def vector_bytes(vector: Vector) -> bytes:
    """Encode a vector in pgvector's binary format: dimensions, two zero bytes, and the numbers."""
    numbers = array("f", vector.data)
    numbers.byteswap()  # from little-endian to big-endian
    return struct.pack(">HH", len(numbers), 0) + numbers.tobytes()


def _scalar(value: Scalar) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float) and value.is_integer():
        return f"{value:.1f}"
    return json.dumps(value)


def _string(text: str) -> str:
    return json.dumps(kept(text), ensure_ascii=False)
