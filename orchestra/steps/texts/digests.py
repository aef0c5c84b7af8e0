"""Digests of ingested texts: they identify the embedder of the vectors, and the content. Pure.

Rules of the file: a digest is `DIMENSIONS-EMBEDDER-CONTENT`, of which the last two are hashes. A
string of another form was not written by this module, and tells nothing.
"""

from __future__ import annotations

import hashlib
import json
import re

import attrs

from orchestra.protocols import Embedder
from orchestra.values import NO_METADATA, Metadata

_RECIPE = "2"  # incremented when the way in which texts are cut or embedded changes
_EMBEDDER_CHARS, _CONTENT_CHARS = 8, 32
_DIGEST = re.compile(
    rf"(?P<embedder>(?P<dimensions>[0-9]+)-[0-9a-f]{{{_EMBEDDER_CHARS}}})"
    rf"-[0-9a-f]{{{_CONTENT_CHARS}}}"
)


@attrs.frozen
class Recipe:
    """The options that turn a text into passages and vectors; other options give other digests."""

    size_chars: int
    overlap_chars: int
    embedder: str
    """From `embedder_of`."""
    metadata: Metadata = NO_METADATA
    """Added to that of each passage."""

    def digest(self, content: str | bytes) -> str:
        """The digest of a text, or of a PDF's bytes, ingested with these options."""
        data = content.encode() if isinstance(content, str) else content
        options = f"{_RECIPE}\0{self.size_chars}\0{self.overlap_chars}\0"
        if self.metadata:
            options += f"\0{json.dumps(dict(self.metadata), sort_keys=True)}\0"
        return f"{self.embedder}-{_hash(options.encode() + data, _CONTENT_CHARS)}"


def embedder_of(embedder: Embedder) -> str:
    """The name of an embedder in digests: its dimensions and, if it has one, its `identity`."""
    identity: str = getattr(embedder, "identity", "")
    return f"{embedder.dimensions}-{_hash(identity.encode(), _EMBEDDER_CHARS)}"


def is_of_another(digest: str, embedder: str) -> bool:
    """Whether the digest is from another embedder than `embedder`, a result of `embedder_of`."""
    found = _DIGEST.fullmatch(digest)
    return found is not None and found["embedder"] != embedder


def dimensions_of(digest: str) -> int | None:
    """The length of the vectors; None if the digest is of another form."""
    found = _DIGEST.fullmatch(digest)
    return int(found["dimensions"]) if found else None


def _hash(content: bytes, chars: int) -> str:
    return hashlib.sha256(content).hexdigest()[:chars]
