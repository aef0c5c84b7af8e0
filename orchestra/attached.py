"""Attachments of a message: bytes with a media type. Pure.

Images and files are two classes of one idea, because models differ: some can see images, others
read files and may cite them.
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
    """The registered name of a media type: `image/jpeg` for `image/jpg`, which many write."""
    return _UNREGISTERED.get(media_type, media_type)


@frozen
class Attached:
    """Bytes with their media type: `image/png`, `application/pdf`, ..."""

    data: bytes = attrs.field(repr=False)
    media_type: str = attrs.field(converter=registered)
    prompt_cache: bool = attrs.field(default=False, kw_only=True)
    """The same as in `TextPart`."""

    @property
    def is_text(self) -> bool:
        """Whether its media type is any kind of text: `text/markdown`, `application/json`."""
        return self.media_type.startswith(("text/", *_TEXTS))

    @property
    def base64(self) -> str:
        """The bytes in base64, as JSON carries them."""
        return b64encode(self.data).decode("ascii")

    @property
    def data_url(self) -> str:
        """A URL that holds the bytes: `data:image/png;base64,...`."""
        return f"data:{self.media_type};base64,{self.base64}"


@frozen
class Citable(Attached):
    """An attachment that an answer may cite.

    With `citations`, the request asks the model to cite it: see `orchestra.citations`. Only
    Anthropic's models support this, and Cohere's for text; for others, the request is refused.
    """

    citations: bool = attrs.field(default=False, kw_only=True)
    passages: tuple[str, ...] = attrs.field(default=(), kw_only=True, repr=False)
    """The text as pieces that are each cited as a whole; `data` holds all of them."""
    source: str = attrs.field(default="", kw_only=True)
    """Where a search found it; "" if it was not found by a search."""
