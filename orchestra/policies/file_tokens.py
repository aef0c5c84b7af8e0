"""The tokens of files that models read, estimated from their bytes. Pure.

What is counted is pages. Anthropic gives 1,500 to 3,000 tokens for the text of one, and its image
beside it; OpenAI reads text and image as well, Gemini an image of 258 (each in its guide to PDFs,
November 2026). Where no page can be seen, a file counts as a text of its size: an encrypted PDF,
an office document. That is too much for pictures, and may be half of the truth for packed text.
"""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
from itertools import islice

from orchestra.values import FilePart

UNPACKED_BYTES_MAX = 2 * 1024 * 1024
"""Of what describes the pages of a PDF, when unpacked: a thousand pages need about half of one."""
PAGES_MAX = 10_000
"""More are not counted: nobody reads them, and no budget holds them."""
_PACK_BYTES = 1024  # that each pack counts for at least, so that there are no more than 2,000
_PIECE_BYTES = 4096  # that are unpacked at once: what is left of the last piece is copied
_HEAD_BYTES = 300  # in which a pack says what else it is, before its data
_PAGE = re.compile(rb"/Type\s*/Page(?!\w)")
_PACK = re.compile(rb"/ObjStm")
_DATA = re.compile(rb"stream\r?\n")


def file_tokens(part: FilePart, *, page_tokens: int, bytes_per_token: int) -> int:
    """About how many tokens a file is: by its pages, or else by its bytes."""
    pages = 0 if part.is_text else pages_of(part.data)
    return pages * page_tokens if pages else -(-len(part.data) // bytes_per_token)


def pages_of(pdf: bytes) -> int:
    """How many pages a PDF shows that it has; 0 where it shows none, or too much else beside them.

    It is not taken apart: who lies about its pages is found out when the provider has counted.
    Whatever it is, that takes milliseconds, since it is done where all wait for it.
    """
    seen, left = _pages(pdf), UNPACKED_BYTES_MAX
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
    with suppress(zlib.error):  # it is packed otherwise, or encrypted
        while not unpacking.eof and start < len(pdf) and len(unpacked) < bytes_max:
            piece = unpacking.unconsumed_tail or pdf[start : start + _PIECE_BYTES]
            start += 0 if unpacking.unconsumed_tail else len(piece)
            unpacked += unpacking.decompress(piece, bytes_max - len(unpacked))
    return unpacked
