"""Images that are written into their own address: `data:image/png;base64,...`."""

from __future__ import annotations

from orchestra.codecs.data_urls import read_data_url
from orchestra.errors import CapabilityError
from orchestra.values import ImagePart, ImageUrlPart


def data_image(url: str, detail: str | None = None) -> ImagePart | None:
    """The image that stands in a data URL; None if this is an address.

    Raises:
        ValueError: it is a data URL, but none in base64.
    """
    found = read_data_url(url)
    if found is None:
        return None
    data, media_type = found
    return ImagePart(data, media_type.partition(";")[0] or "image/png", detail)


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
