"""Digests of ingested texts: which embedder made the vectors, and of what. Pure.

Rules of the file: a digest is `DIMENSIONS-EMBEDDER-CONTENT`, the last two hashes. What does not
look like that was not written here, and tells nothing.
"""

from __future__ import annotations

import hashlib
import re

import attrs

from orchestra.protocols import Embedder

_RECIPE = "2"  # counted up when texts are cut or embedded in another way than before
_EMBEDDER_CHARS, _CONTENT_CHARS = 8, 32
_DIGEST = re.compile(
    rf"(?P<embedder>(?P<dimensions>[0-9]+)-[0-9a-f]{{{_EMBEDDER_CHARS}}})"
    rf"-[0-9a-f]{{{_CONTENT_CHARS}}}"
)


@attrs.frozen
class Recipe:
    """How a text becomes passages and vectors; of another recipe it has another digest."""

    size_chars: int
    overlap_chars: int
    embedder: str
    """As `embedder_of` tells it."""

    def digest(self, text: str) -> str:
        """The digest of a text that is done so."""
        said = f"{_RECIPE}\0{self.size_chars}\0{self.overlap_chars}\0{text}"
        return f"{self.embedder}-{_hash(said, _CONTENT_CHARS)}"


def embedder_of(embedder: Embedder) -> str:
    """What digests call an embedder: by its length and, where it has one, its `identity`."""
    identity: str = getattr(embedder, "identity", "")
    return f"{embedder.dimensions}-{_hash(identity, _EMBEDDER_CHARS)}"


def is_of_another(digest: str, embedder: str) -> bool:
    """Whether the digest tells of another embedder than this one of `embedder_of`."""
    found = _DIGEST.fullmatch(digest)
    return found is not None and found["embedder"] != embedder


def dimensions_of(digest: str) -> int | None:
    """How long the vectors are, if the digest tells."""
    found = _DIGEST.fullmatch(digest)
    return int(found["dimensions"]) if found else None


def _hash(said: str, chars: int) -> str:
    return hashlib.sha256(said.encode()).hexdigest()[:chars]
