"""The text of an API key: `ork_ID_SECRET`. Pure.

The id, by which a key is looked up, is not secret. The secret is 256 random bits, so that it cannot
be guessed, and is shown only once. The last six characters are a CRC-32 of all characters before
them: a key that was copied wrongly is recognised without a lookup, and a secret scanner can tell
our keys from other text (by `PATTERN`, then the checksum).
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
"""A regular expression for keys, for scanners that look for leaked secrets."""
LENGTH = len(PREFIX) + ID_CHARS + 1 + SECRET_CHARS + CHECK_CHARS

_KEY = re.compile(PATTERN)
_NAMED = re.compile(rf"(?:{PREFIX})?([0-9A-Za-z]{{{ID_CHARS}}})(?:_[0-9A-Za-z]*)?")


@attrs.frozen
class Token:
    """A key as its holder has it; `text` is the whole key, the only part that a holder stores."""

    id: str
    secret: str = attrs.field(repr=False)

    @property
    def text(self) -> str:
        """The whole text of the key, with its checksum."""
        body = f"{PREFIX}{self.id}_{self.secret}"
        return body + _checksum(body)


def minted(entropy: bytes) -> Token:
    """The key made from `ENTROPY_BYTES` random bytes; different bytes give different keys."""
    number = int.from_bytes(entropy[:ID_BYTES])
    secret = int.from_bytes(entropy[ID_BYTES:ENTROPY_BYTES])
    return Token(_base62(number, ID_CHARS), _base62(secret, SECRET_CHARS))


def parsed(text: str) -> Token | None:
    """The key with this text; None if the text is not a key."""
    if len(text) != LENGTH or _KEY.fullmatch(text) is None:
        return None
    body, checksum = text[:-CHECK_CHARS], text[-CHECK_CHARS:]
    if _checksum(body) != checksum:
        return None
    start = len(PREFIX) + ID_CHARS
    return Token(body[len(PREFIX) : start], body[start + 1 :])


def why_malformed(text: str) -> str:
    """Why a text is not a key; does not repeat the text, since it may be a secret."""
    if not text:
        return "it is not in one header, as `Authorization: Bearer KEY`"
    if not text.startswith(PREFIX):
        return f"it does not begin with {PREFIX}"
    if len(text) != LENGTH:
        return f"it has {len(text)} characters, not {LENGTH}"
    if _KEY.fullmatch(text) is None:
        return f"it is not of the form {PREFIX}ID_SECRET"
    return "its checksum is wrong: it was copied with a mistake"


def id_of(text: str) -> str | None:
    """The id in an id, in `ork_ID`, or in the whole text of a key; None for any other text."""
    found = _NAMED.fullmatch(text)
    return found[1] if found else None


def _checksum(body: str) -> str:
    return _base62(crc32(body.encode()), CHECK_CHARS)


def _base62(number: int, chars: int) -> str:
    found = ""
    for _ in range(chars):
        number, digit = divmod(number, len(ALPHABET))
        found = ALPHABET[digit] + found
    return found
