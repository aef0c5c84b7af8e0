"""Error texts for bodies of clients that are not JSON. Pure."""

from __future__ import annotations

import re

_SURROGATE = re.compile(rb"\\u[dD][89aAbB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")


def invalid_json(sent: bytes, error: Exception, what: str = "the body") -> str:
    """The error text; for half a character, msgspec's own text says that the body was cut."""
    if isinstance(error, RecursionError):  # its text differs between Python versions
        return f"{what} is nested too deeply"
    half = _SURROGATE.search(sent) if "truncated" in str(error) else None
    if half is not None and sent.rstrip().endswith(b"}"):
        return (
            f"{what} is not JSON: {half[0].decode()} is half of a character; send both halves, "
            "or leave it out"
        )
    return f"{what} is not JSON: {error}"
