"""Lone surrogates: halves of a character, which a text may contain and UTF-8 cannot. Pure.

They come from JSON with an escape of one half, from a text that was cut inside a pair, and from
names of files that are not UTF-8.
"""

from __future__ import annotations


def is_utf8(text: str) -> bool:
    """Whether a text can be encoded as UTF-8: it must not contain a lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def escaped(text: str) -> str:
    r"""The text with each lone surrogate as its escape, as `\\ud83d`: for people to read."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def replaced(text: str) -> str:
    """The text with a question mark for each lone surrogate: for models and programs to read."""
    return text if text.isascii() else text.encode(errors="replace").decode()
