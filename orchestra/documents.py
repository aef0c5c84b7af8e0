"""Documents: files that somebody handed in, as values that travel on wires. Pure.

What a file is, its media type says; what it says, `text`, for text of any kind. To take a PDF
apart costs time and memory, and is a step's work: `orchestra.steps.read`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from orchestra.errors import DocumentError
from orchestra.eventclass import frozen

MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "csv": "text/csv",
        "htm": "text/html",
        "html": "text/html",
        "json": "application/json",
        "markdown": "text/markdown",
        "md": "text/markdown",
        "pdf": "application/pdf",
        "rst": "text/x-rst",
        "txt": "text/plain",
    }
)
"""What a file is by the ending of its name, where nobody says it; the same on every machine."""
SOME_BYTES = "application/octet-stream"
_PDF = "application/pdf"
_MARK = b"%PDF-"
_TOLD = 200  # characters of a name


@frozen
class Document:
    """A file that somebody handed in: its name, its bytes, and what they are.

    `media_type` is as in a Content-Type header, with a charset or without. Where it says nothing,
    or only that there are bytes, the name's ending tells it: `notes.md` is `text/markdown`.
    """

    name: str
    data: bytes = attrs.field(repr=False)
    media_type: str = ""

    def __attrs_post_init__(self) -> None:
        if self.kind in ("", SOME_BYTES):
            ending = self.name.rpartition(".")[2].lower()
            object.__setattr__(self, "media_type", MEDIA_TYPES.get(ending, SOME_BYTES))

    @property
    def kind(self) -> str:
        """Its media type, in small letters and without parameters: `text/markdown`."""
        return self.media_type.partition(";")[0].strip().lower()

    @property
    def is_pdf(self) -> bool:
        """Whether it is a PDF, by its media type or, if that is not of text, by its first bytes."""
        told = self.kind.startswith("text/")
        return self.kind == _PDF or (not told and self.data.startswith(_MARK))

    @property
    def text(self) -> str:
        """What it says, if it is text of any kind: in its charset, without one in UTF-8.

        Raises:
            DocumentError: it is a PDF, or no text, or in another charset.
        """
        if self.is_pdf:
            raise self.error("is a PDF: read it with `text_of` or `pages` of orchestra.steps.read")
        charset = self._charset()
        try:
            text = self.data.decode(charset)
        except UnicodeDecodeError as error:
            raise self.error(
                f"({self.media_type[:_TOLD]}) is not {charset} text, at byte {error.start}; if it "
                "is in another charset, say so: `text/plain; charset=windows-1252`"
            ) from error
        if "\0" in text:
            raise self.error(f"({self.media_type[:_TOLD]}) is not text: it has NUL characters")
        return text.removeprefix("\ufeff")

    def error(self, message: str) -> DocumentError:
        """The error that says this of it, by its name."""
        return DocumentError(f"the document {self.name[:_TOLD]!r} {message}")

    def _charset(self) -> str:
        for parameter in self.media_type.split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                charset = value.strip().strip("\"'").lower().replace("_", "-")
                if charset not in _CHARSETS:
                    known = ", ".join(sorted(_CHARSETS))
                    raise self.error(f"is in {charset[:_TOLD]!r}; send UTF-8, or one of {known}")
                return charset
        return "utf-8"


_CHARSETS = frozenset(
    {
        *("utf-8", "utf8", "utf-16", "utf-16le", "utf-16be", "us-ascii", "ascii"),
        *("iso-8859-1", "iso-8859-2", "iso-8859-15", "latin-1"),
        *("windows-1250", "windows-1251", "windows-1252", "koi8-r"),
        *("gb18030", "gbk", "big5", "shift-jis", "euc-jp", "euc-kr"),
    }
)
"""Charsets, as Python names them too. Its own table holds more than charsets: some entries make
no text of bytes, and some need time that grows with the square of them."""
