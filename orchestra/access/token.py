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
"""Of base 62: a double click in a terminal takes all of a key."""
ID_BYTES, ID_CHARS = 8, 11
SECRET_BYTES, SECRET_CHARS = 32, 43
CHECK_CHARS = 6
ENTROPY_BYTES = ID_BYTES + SECRET_BYTES
"""So many random bytes are one key."""
PATTERN = rf"{PREFIX}[0-9A-Za-z]{{{ID_CHARS}}}_[0-9A-Za-z]{{{SECRET_CHARS + CHECK_CHARS}}}"
"""What a key looks like, for those who look for leaked ones."""
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
    """The key that these `ENTROPY_BYTES` random bytes are: other bytes, another key."""
    number = int.from_bytes(entropy[:ID_BYTES])
    secret = int.from_bytes(entropy[ID_BYTES:ENTROPY_BYTES])
    return Token(_base62(number, ID_CHARS), _base62(secret, SECRET_CHARS))


def parsed(text: str) -> Token | None:
    """The key that is written there; None, whatever it is, where that is none."""
    if len(text) != LENGTH or _KEY.fullmatch(text) is None:
        return None
    said, checksum = text[:-CHECK_CHARS], text[-CHECK_CHARS:]
    if _checksum(said) != checksum:
        return None
    start = len(PREFIX) + ID_CHARS
    return Token(said[len(PREFIX) : start], said[start + 1 :])


def malformation(text: str) -> str:
    """What is wrong with a text that is no key; none of it is told: it may be another's secret."""
    if not text.startswith(PREFIX):
        return f"it does not begin with {PREFIX}"
    if len(text) != LENGTH:
        return f"it has {len(text)} characters, not {LENGTH}"
    if _KEY.fullmatch(text) is None:
        return f"it is not of the form {PREFIX}ID_SECRET"
    return "its checksum is wrong: it was not copied as it is"


def id_of(text: str) -> str | None:
    """The id in what a person says of a key: the id, `ork_ID`, or all of it; None in no such."""
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
