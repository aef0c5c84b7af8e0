"""Frames of the AWS event stream, written by hand, for the tests of what reads them."""

from __future__ import annotations

import struct
from itertools import pairwise
from zlib import crc32

from hypothesis import strategies as st

CUTS = st.lists(st.integers(0, 3000), max_size=12)
"""Where to cut a stream into pieces."""


def string(text: str) -> bytes:
    return struct.pack(">BH", 7, len(text.encode())) + text.encode()


def header(name: str, value: bytes) -> bytes:
    return bytes([len(name)]) + name.encode() + value


def frame(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    start = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return start + struct.pack(">I", crc32(start))


def event(kind: str, payload: bytes = b"{}") -> bytes:
    told = header(":event-type", string(kind)) + header(":message-type", string("event"))
    return frame(told, payload)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(at)]
