"""Documents: files that were handed in, as values that travel on wires. Pure.

`media_type` says what kind of file it is, and `text` gives the content of any kind of text file.
Reading a PDF costs time and memory, so it is the work of a step: `orchestra.steps.read`.
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
"""The media type by file extension, where none is given; the same on every machine."""
SOME_BYTES = "application/octet-stream"
_PDF = "application/pdf"
_MARK = b"%PDF-"
_SHOWN_CHARS = 200  # how much of a name or type an error message shows


@frozen
class Document:
    """A file that was handed in: its name, its bytes and its media type.

    `media_type` has the form of a Content-Type header, with or without a charset. If it is empty
    or `application/octet-stream`, the extension of the name decides: `notes.md` is
    `text/markdown`.
    """

    name: str
    data: bytes = attrs.field(repr=False)
    media_type: str = ""

    def __attrs_post_init__(self) -> None:
        if self.kind in ("", SOME_BYTES):
            extension = self.name.rpartition(".")[2].lower()
            object.__setattr__(self, "media_type", MEDIA_TYPES.get(extension, SOME_BYTES))

    @property
    def kind(self) -> str:
        """Its media type in lower case and without parameters: `text/markdown`."""
        return self.media_type.partition(";")[0].strip().lower()

    @property
    def is_pdf(self) -> bool:
        """Whether it is a PDF: by its media type or, unless that is `text/...`, its first bytes."""
        is_text = self.kind.startswith("text/")
        return self.kind == _PDF or (not is_text and self.data.startswith(_MARK))

    @property
    def text(self) -> str:
        """Its content as text, decoded from its charset, which is UTF-8 if none is given.

        Raises:
            DocumentError: it is a PDF, it is not text, or its charset is unknown or wrong.
        """
        if self.is_pdf:
            raise self.error("is a PDF: read it with `text_of` or `pages` of orchestra.steps.read")
        charset = self._charset()
        try:
            text = self.data.decode(charset)
        except UnicodeDecodeError as error:
            raise self.error(
                f"({self.media_type[:_SHOWN_CHARS]}) is not {charset} text, at byte {error.start}; "
                "if it has another charset, name it: `text/plain; charset=windows-1252`"
            ) from error
        if "\0" in text:
            raise self.error(
                f"({self.media_type[:_SHOWN_CHARS]}) is not text: it has NUL characters"
            )
        return text.removeprefix("\ufeff")

    def error(self, message: str) -> DocumentError:
        """A `DocumentError` whose message is its name, followed by `message`."""
        return DocumentError(f"the document {self.name[:_SHOWN_CHARS]!r} {message}")

    def _charset(self) -> str:
        for parameter in self.media_type.split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                charset = value.strip().strip("\"'").lower().replace("_", "-")
                if charset not in _CHARSETS:
                    known = ", ".join(sorted(_CHARSETS))
                    shown = charset[:_SHOWN_CHARS]
                    raise self.error(f"has the charset {shown!r}; send UTF-8, or one of {known}")
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
"""The charsets that are decoded, by names that Python knows too. Python's own table is not used: it
also has codecs that do not give text, and some whose time is quadratic in the size."""
