"""System messages as most providers take them."""

from __future__ import annotations

from orchestra.values import FilePart, ImagePart, ImageUrlPart, Message


def sendable(message: Message) -> Message:
    """The message; if it is a system message, without images and files, which are refused there."""
    if message.role != "system":
        return message
    files = ImagePart | ImageUrlPart | FilePart
    return Message("system", tuple(each for each in message.parts if not isinstance(each, files)))
