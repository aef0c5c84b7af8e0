"""Files in messages: what of them is sent, and to whom. Pure.

A file of text is text: whoever has no place for such a file is told its text, under its name. A
file that is no text goes to those only who read it, and is refused for others.
"""

from __future__ import annotations

from orchestra.codecs.data_urls import read_base64, read_data_url
from orchestra.documents import SOME_BYTES, Document
from orchestra.errors import CapabilityError, DocumentError
from orchestra.values import FilePart, Part, TextPart

PDF = "application/pdf"


def text_of(part: FilePart) -> str:
    """What a file of text says.

    Raises:
        CapabilityError: it is no UTF-8.
    """
    try:
        return part.data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise CapabilityError(
            f"{_called(part)} is no text in UTF-8, at byte {error.start}; give its bytes as UTF-8, "
            "or the media type that it has"
        ) from error


def as_text_part(part: FilePart, whom: str) -> TextPart:
    """The text of a file, under its name, for one who has no place for files.

    Raises:
        CapabilityError: it is no text, or no UTF-8.
    """
    if not part.is_text:
        raise unread(part, whom)
    called = f"{part.name}:\n\n" if part.name else ""
    return TextPart(f"\n{called}{text_of(part)}\n")


def without_files(parts: tuple[Part, ...], whom: str) -> tuple[Part, ...]:
    """The parts, with the text of files in their place.

    Raises:
        CapabilityError: as of `as_text_part`.
    """
    return tuple(as_text_part(part, whom) if isinstance(part, FilePart) else part for part in parts)


def unread(part: FilePart, whom: str) -> CapabilityError:
    """The error that says that somebody does not read a file."""
    return CapabilityError(
        f"{_called(part)} cannot be sent to {whom}, which does not read {part.media_type[:100]!r} "
        "here; ask a model that does, or send its text"
    )


def handed_in(written: str, name: str) -> FilePart:
    """A file that a client has written into its request: as a data URL, or its bytes in base64.

    Where it does not say what it is, its name's ending tells it. Text becomes UTF-8.

    Raises:
        ValueError: it is neither, or what it is cannot be told, or it is text in no charset that
            is known.
    """
    data, media_type = read_data_url(written) or (read_base64(written), "")
    document = Document(name, data, media_type)
    if document.is_pdf:
        return FilePart(data, PDF, name)
    if document.kind == SOME_BYTES:
        raise ValueError(
            f"what {name[:100]!r} is cannot be told; write it as data:application/pdf;base64,..."
        )
    part = FilePart(data, document.kind, name)
    if not part.is_text:
        return part
    try:
        return FilePart(document.text.encode(), document.kind, name)
    except DocumentError as error:
        raise ValueError(str(error)) from error


def _called(part: FilePart) -> str:
    return f"the file {part.name[:100]!r}" if part.name else "a file without a name"
