"""Unicode's normal forms in linear time. Pure."""

from __future__ import annotations

import re

_PIECE = re.compile(r".{1,255}(?:\s|\Z)|.{1,256}(?=\w)|.{1,256}", re.DOTALL)


def pieces(text: str) -> list[str]:
    """The text in pieces of at most 256 characters, which end at spaces if there are any.

    Where there are none, as in Japanese, they end before a letter, which its accents follow.
    Pass them to `unicodedata.normalize` one by one: a run of accents takes quadratic time there,
    with the interpreter's lock, and a client may have written one of a megabyte.
    """
    return _PIECE.findall(text)
