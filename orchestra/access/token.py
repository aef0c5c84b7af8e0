"""How an API key is written: `ork_ID_SECRET`. Pure.

The id is what a key is looked up by, and may be shown; the secret is shown once. It is 256 random
bits, so that nobody can guess it. The last six characters are the CRC-32 of all that stands before
them: a key that was copied wrongly is told from one that is unknown without looking anything up,
and a scanner for secrets can tell our keys from other text (`PATTERN`, then the checksum).
"""

from __future__ import annotations

import re
from string import ascii_lowercase, ascii_uppercase, digits
from zlib import crc32

import attrs

PREFIX = "ork_"
ALPHABET = digits + ascii_uppercase + ascii_lowercase
"""Base 62, so that a double click in a terminal selects a whole key."""
ID_BYTES, ID_CHARS = 8, 11
SECRET_BYTES, SECRET_CHARS = 32, 43
CHECK_CHARS = 6
ENTROPY_BYTES = ID_BYTES + SECRET_BYTES
"""The random bytes in a key."""
PATTERN = rf"{PREFIX}[0-9A-Za-z]{{{ID_CHARS}}}_[0-9A-Za-z]{{{SECRET_CHARS + CHECK_CHARS}}}"
"""The form of a key, for scanners that look for leaked ones."""
LENGTH = len(PREFIX) + ID_CHARS + 1 + SECRET_CHARS + CHECK_CHARS

_KEY = re.compile(PATTERN)
_NAMED = re.compile(rf"(?:{PREFIX})?([0-9A-Za-z]{{{ID_CHARS}}})(?:_[0-9A-Za-z]*)?")


@attrs.frozen
class Token:
    """A key as its holder has it; `text` is all of it, and the only thing to keep."""

    id: str
    secret: str = attrs.field(repr=False)

    @property
    def text(self) -> str:
        """How it is written."""
        said = f"{PREFIX}{self.id}_{self.secret}"
        return said + _checksum(said)


def minted(entropy: bytes) -> Token:
    """The key made of `ENTROPY_BYTES` random bytes; other bytes give another key."""
    number = int.from_bytes(entropy[:ID_BYTES])
    secret = int.from_bytes(entropy[ID_BYTES:ENTROPY_BYTES])
    return Token(_base62(number, ID_CHARS), _base62(secret, SECRET_CHARS))


def parsed(text: str) -> Token | None:
    """The key in this text; None for any text that is no key."""
    if len(text) != LENGTH or _KEY.fullmatch(text) is None:
        return None
    said, checksum = text[:-CHECK_CHARS], text[-CHECK_CHARS:]
    if _checksum(said) != checksum:
        return None
    start = len(PREFIX) + ID_CHARS
    return Token(said[len(PREFIX) : start], said[start + 1 :])


def why_malformed(text: str) -> str:
    """Why a text is no key; the text itself is not repeated, since it may be a secret."""
    if not text.startswith(PREFIX):
        return f"it does not begin with {PREFIX}"
    if len(text) != LENGTH:
        return f"it has {len(text)} characters, not {LENGTH}"
    if _KEY.fullmatch(text) is None:
        return f"it is not of the form {PREFIX}ID_SECRET"
    return "its checksum is wrong: it was not copied as it is"


def id_of(text: str) -> str | None:
    """The id in the id of a key, in `ork_ID`, or in all of the key; None in any other text."""
    found = _NAMED.fullmatch(text)
    return found[1] if found else None


def _checksum(said: str) -> str:
    return _base62(crc32(said.encode()), CHECK_CHARS)


def _base62(number: int, chars: int) -> str:
    found = ""
    for _ in range(chars):
        number, digit = divmod(number, len(ALPHABET))
        found = ALPHABET[digit] + found
    return found
