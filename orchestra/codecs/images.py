"""Images that are written into their own address: `data:image/png;base64,...`."""

from __future__ import annotations

import re
from base64 import b64decode

from orchestra.errors import CapabilityError
from orchestra.values import ImagePart, ImageUrlPart

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,(.*)", re.DOTALL)


def data_image(url: str, detail: str | None = None) -> ImagePart | None:
    """The image that stands in a data URL; None if this is an address.

    Raises:
        ValueError: it is a data URL, but none in base64.
    """
    if not url.startswith("data:"):
        return None
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise ValueError(f"{url[:60]!r} is no data URL in base64")
    try:
        return ImagePart(b64decode(found[2], validate=True), found[1] or "image/png", detail)
    except ValueError as error:
        raise ValueError(f"its data is no base64: {error}") from error


def seen(part: ImagePart | ImageUrlPart) -> ImagePart | ImageUrlPart:
    """The image itself where it stands in its address: providers fetch addresses only.

    Raises:
        CapabilityError: what stands there cannot be read.
    """
    if isinstance(part, ImagePart):
        return part
    try:
        return data_image(part.url, part.detail) or part
    except ValueError as error:
        raise CapabilityError(
            f"the address of an ImageUrlPart cannot be read: {error}; give the image's bytes as an "
            "ImagePart"
        ) from error
