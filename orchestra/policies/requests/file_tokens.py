"""The tokens of files in requests, estimated from their bytes. Pure.

Pages are counted. For each page, Anthropic counts 1,500 to 3,000 tokens of text, plus an image;
OpenAI reads text and image, too; Gemini reads an image of 258 tokens (see their guides to PDFs,
November 2026). A file in which no pages are found (an encrypted PDF, an office document) counts as
a text of its size. That is too much for pictures, and may be only half of the real number for
compressed text.
"""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
from itertools import islice

from orchestra.values import FilePart

UNPACKED_BYTES_MAX = 2 * 1024 * 1024
"""The most bytes of object streams to decompress; a thousand pages need about half of this."""
UNPACKED_TIMES_MAX = 20
"""... and how many times the size of the file, since a request may have hundreds of small files.
Those of a usual file are smaller than the file; those of blank pages are 18 times as large."""
PAGES_MAX = 10_000
"""Further pages are not counted: no model reads them, and no budget allows them."""
_PACK_BYTES = 1024  # each object stream counts as at least this, so at most 2,000 are read
_PIECE_BYTES = 4096  # decompressed at once: the unread rest of a piece is copied each time
_HEAD_BYTES = 300  # the dictionary of an object stream, before its data
_PAGE = re.compile(rb"/Type\s*/Page(?!\w)")
_PACK = re.compile(rb"/ObjStm")
_DATA = re.compile(rb"stream\r?\n")


def file_tokens(part: FilePart, *, page_tokens: int, bytes_per_token: int) -> int:
    """The estimated tokens of a file: by its pages or, if none are found, by its bytes."""
    pages = 0 if part.is_text else pages_of(part.data)
    return pages * page_tokens if pages else -(-len(part.data) // bytes_per_token)


def pages_of(pdf: bytes) -> int:
    """The number of pages found in a PDF; 0 if none are found, or there is too much other data.

    The file is not really parsed: a wrong number is corrected when the provider has counted. The
    work is bounded to milliseconds for any file, since it blocks the event loop.
    """
    seen, left = _pages(pdf), min(UNPACKED_BYTES_MAX, UNPACKED_TIMES_MAX * len(pdf))
    for found in _PACK.finditer(pdf):
        data = _DATA.search(pdf, found.end(), found.end() + _HEAD_BYTES)
        unpacked = _unpacked(pdf, data.end(), left) if data else b""
        left -= max(len(unpacked), _PACK_BYTES)
        if left <= 0:
            return 0
        seen += _pages(unpacked)
    return min(seen, PAGES_MAX)


def _pages(written: bytes | bytearray) -> int:
    return sum(1 for _ in islice(_PAGE.finditer(written), PAGES_MAX))


def _unpacked(pdf: bytes, start: int, bytes_max: int) -> bytearray:
    unpacking, unpacked = zlib.decompressobj(), bytearray()
    with suppress(zlib.error):  # packed in another way, or encrypted
        while not unpacking.eof and start < len(pdf) and len(unpacked) < bytes_max:
            piece = unpacking.unconsumed_tail or pdf[start : start + _PIECE_BYTES]
            start += 0 if unpacking.unconsumed_tail else len(piece)
            unpacked += unpacking.decompress(piece, bytes_max - len(unpacked))
    return unpacked
