"""Files in messages: which are sent, in which form, and to which models. Pure.

A text file can be sent as text, under its name, to a model that accepts no files. Any other file
is sent only to models that accept it, and refused for others.
"""

from __future__ import annotations

from orchestra.codecs.data_urls import read_base64, read_data_url
from orchestra.documents import SOME_BYTES, Document
from orchestra.errors import CapabilityError, DocumentError
from orchestra.values import FilePart, Part, TextPart

PDF = "application/pdf"


def text_of(part: FilePart) -> str:
    """The text of a text file.

    Raises:
        CapabilityError: it is not UTF-8.
    """
    try:
        return part.data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise CapabilityError(
            f"{_called(part)} is not UTF-8 text, at byte {error.start}; convert it to UTF-8, or "
            "give its real media type"
        ) from error


def title_of(part: FilePart) -> str:
    """The title of a file for a model that cites it: its name without the source, if it has one."""
    return part.name.removesuffix(f" ({part.source})") or part.source


def as_text_part(part: FilePart, whom: str) -> TextPart:
    """The text of a file, under its name, for a model that accepts no files.

    Raises:
        CapabilityError: it is not text, or not UTF-8, or it has `citations`.
    """
    refuse_citations(part, whom)
    if not part.is_text:
        raise unread(part, whom)
    called = f"{part.name}:\n\n" if part.name else ""
    return TextPart(f"\n{called}{text_of(part)}\n", prompt_cache=part.prompt_cache)


def without_files(parts: tuple[Part, ...], whom: str) -> tuple[Part, ...]:
    """The parts, with files replaced by their text.

    Raises:
        CapabilityError: as in `as_text_part`.
    """
    return tuple(as_text_part(part, whom) if isinstance(part, FilePart) else part for part in parts)


def refuse_citations(part: FilePart, whom: str) -> None:
    """Refuse a file with `citations`, for a provider that cannot be asked for them.

    Raises:
        CapabilityError: it has `citations`.
    """
    if part.citations:
        raise CapabilityError(
            f"{whom} cannot cite {_called(part)}; leave `citations` out, or ask a model of "
            "Anthropic or, if it is text, of Cohere"
        )


def unread(part: FilePart, whom: str) -> CapabilityError:
    """The error for a file that a model does not accept."""
    return CapabilityError(
        f"{_called(part)} cannot be sent to {whom}, which does not accept files of type "
        f"{part.media_type[:100]!r} here; ask a model that does, or send the file's text"
    )


def handed_in(written: str, name: str) -> FilePart:
    """The file in a client's request, written as a data URL or as bytes in base64.

    Without a media type, the extension of `name` decides. Text is converted to UTF-8.

    Raises:
        ValueError: `written` is neither, the file's type is unknown, or it is text in an unknown
            charset.
    """
    data, media_type = read_data_url(written) or (read_base64(written), "")
    document = Document(name, data, media_type)
    if document.is_pdf:
        return FilePart(data, PDF, name)
    if document.kind == SOME_BYTES:
        raise ValueError(
            f"the type of {name[:100]!r} is unknown; send it as data:application/pdf;base64,..."
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
