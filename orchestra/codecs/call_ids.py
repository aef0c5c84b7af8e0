"""Ids of tool calls: what another provider has made may not be what the one that is asked takes."""

from __future__ import annotations

import re
from hashlib import blake2b

_CHARS = 24


def call_id(id_: str, taken: str, chars: int = _CHARS) -> str:
    """The id if it is as the pattern says, else one of so many digits: the same for the same."""
    return id_ if re.fullmatch(taken, id_) else fingerprint(id_, chars)


def fingerprint(text: str, chars: int) -> str:
    """A name of so many hexadecimal digits, the same for the same text."""
    return blake2b(text.encode("utf-8", "surrogatepass")).hexdigest()[:chars]
