"""Data URLs, with bytes in base64: `data:image/png;base64,...`; and images in them. Pure."""

from __future__ import annotations

import re
from base64 import b64decode

from orchestra.errors import CapabilityError
from orchestra.values import ImagePart, ImageUrlPart

_DATA_URL = re.compile(
    # Possessive: a client wrote it, and backtracking would take quadratic time.
    r"data:((?:[\w.+-]++/[\w.+-]++)?(?:;[\w.+-]++=[\w.+-]++(?=;))*+)(?:;[\w=.+-]++)*;base64,(.*)",
    re.DOTALL,
)


def read_data_url(url: str) -> tuple[bytes, str] | None:
    """The bytes and media type of a data URL; None for a URL of another scheme.

    The media type may have parameters, `text/plain;charset=utf-8`, and is "" if it is missing.

    Raises:
        ValueError: it is a data URL, but not in base64, or its base64 is invalid.
    """
    if not url.startswith("data:"):
        return None
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise ValueError(f"{url[:60]!r} is not a data URL in base64")
    return read_base64(found[2]), found[1]


def read_base64(text: str) -> bytes:
    """Decode base64.

    Raises:
        ValueError: it is not base64.
    """
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"its data is not base64: {error}") from error


def data_image(url: str, detail: str | None = None) -> ImagePart | None:
    """The image in a data URL; None for a URL of another scheme.

    Raises:
        ValueError: it is a data URL, but not in base64, or its base64 is invalid.
    """
    found = read_data_url(url)
    if found is None:
        return None
    data, media_type = found
    return ImagePart(data, media_type.partition(";")[0] or "image/png", detail)


def with_bytes(part: ImagePart | ImageUrlPart) -> ImagePart | ImageUrlPart:
    """The image, with its bytes if its URL is a data URL, which providers do not fetch.

    Raises:
        CapabilityError: the data URL cannot be read.
    """
    if isinstance(part, ImagePart):
        return part
    try:
        return data_image(part.url, part.detail) or part
    except ValueError as error:
        raise CapabilityError(
            f"the URL of an ImageUrlPart cannot be read: {error}; give the image's bytes as an "
            "ImagePart"
        ) from error
