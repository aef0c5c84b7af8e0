"""What stands in a message beside words, and is sent with it: bytes, and what they are. Pure.

An image and a file are one idea with two names, since models do: some see, and others read, and
may cite what they have read.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

import attrs

from orchestra.eventclass import frozen

_UNREGISTERED: Mapping[str, str] = {
    "image/jpg": "image/jpeg",
    "application/x-pdf": "application/pdf",
}
_TEXTS = ("application/json", "application/xml", "application/yaml")


def registered(media_type: str) -> str:
    """The media type under its registered name: many programs write `image/jpg`."""
    return _UNREGISTERED.get(media_type, media_type)


@frozen
class Attached:
    """Bytes, and what they are: `media_type` is `image/png`, `application/pdf`, ..."""

    data: bytes = attrs.field(repr=False)
    media_type: str = attrs.field(converter=registered)
    prompt_cache: bool = attrs.field(default=False, kw_only=True)
    """As in `TextPart`."""

    @property
    def is_text(self) -> bool:
        """Whether its media type is of a text of any kind: `text/markdown`, `application/json`."""
        return self.media_type.startswith(("text/", *_TEXTS))

    @property
    def base64(self) -> str:
        """The bytes as they are written in JSON."""
        return b64encode(self.data).decode("ascii")

    @property
    def data_url(self) -> str:
        """An address in which the bytes stand themselves: `data:image/png;base64,...`."""
        return f"data:{self.media_type};base64,{self.base64}"


@frozen
class Citable(Attached):
    """What an answer may cite.

    With `citations`, the model is asked to cite it: see `orchestra.citations`. Only Anthropic's
    models can be asked for that; for others, it is refused.
    """

    citations: bool = attrs.field(default=False, kw_only=True)
    passages: tuple[str, ...] = attrs.field(default=(), kw_only=True, repr=False)
    """The text in pieces, each of which is cited whole; the bytes are all of them."""
    source: str = attrs.field(default="", kw_only=True)
    """Where a search has found it; "" if it was handed in."""
