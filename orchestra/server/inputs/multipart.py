"""Decodes `multipart/form-data` (RFC 7578) into parts, from pieces of any size. Pure.

Werkzeug's decoder is not used: if a piece ends inside the two hyphens after the last boundary, it
adds a byte to the last part (3.1.9), and it searches the same bytes repeatedly.

A form is parts between delimiters; a delimiter is a line that begins with `--` and the boundary.
The decoder has three states; a line break added before the first byte makes the first delimiter
like the others:

    CONTENT     up to the next delimiter; content before the first delimiter is dropped
    DELIMITER   after a delimiter: `--` ends the form, a line break begins a part
    HEADERS     up to an empty line

Rules of the file:

1. Nothing is decided before the needed bytes have arrived, so the cuts make no difference.
2. The buffer is never longer than a delimiter, or than the limit of a part's headers.
3. The first problem is final. A form that does not end with the last delimiter was cut.
"""

from __future__ import annotations

import re
from enum import Enum, auto

import attrs
from werkzeug.http import parse_options_header

from orchestra.server.responses import problems
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.settings import Settings, media_type

HEADERS_LIMIT_BYTES = 8 * 1024
"""The most bytes of one part's headers together."""
_SHOWN = 100  # characters of a name or a line in a problem
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_PADDING = re.compile(rb"[ \t]{0,64}(?:\r(?:\n)?)?")


@attrs.frozen
class Part:
    """One part of a form; `filename` is None if it is not a file."""

    name: str
    data: bytes
    content_type: str = ""
    filename: str | None = None

    @property
    def kind(self) -> str:
        """Its media type, in lower case and without parameters."""
        return media_type(self.content_type)


def boundary_of(content_type: str) -> str | HttpProblem:
    """The boundary in a `Content-Type` header, or the problem if it has no valid one."""
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    if _BOUNDARY.fullmatch(boundary):
        return boundary
    detail = (
        f"`Content-Type: {content_type[:_SHOWN]}` names no boundary; let your HTTP client write "
        "the header"
    )
    return problems.bad_body(detail)


class _State(Enum):
    CONTENT = auto()
    DELIMITER = auto()
    HEADERS = auto()
    END = auto()
    FAILED = auto()


class Form:
    """A decoder of one form: call `feed` for each piece, then `close`.

    It limits the parts and their sizes; the caller limits the size of the form.
    """

    def __init__(self, boundary: str, settings: Settings) -> None:
        self._delimiter = b"\r\n--" + boundary.encode()
        self._settings = settings
        self._state = _State.CONTENT
        self._buffer = bytearray(b"\r\n")
        self._parts: list[Part] = []
        self._head: Part | None = None  # the part whose content is being read
        self._content = bytearray()
        self._problem: HttpProblem | None = None

    def feed(self, data: bytes) -> HttpProblem | None:
        """Take a piece; returns the first problem, from the call on in which it was found."""
        if self._state in (_State.END, _State.FAILED):
            return self._problem  # bytes after the end are ignored
        self._buffer += data
        steps = {
            _State.CONTENT: self._read_content,
            _State.DELIMITER: self._read_delimiter,
            _State.HEADERS: self._read_headers,
        }
        while (step := steps.get(self._state)) is not None and step():
            pass
        return self._problem

    def close(self) -> tuple[Part, ...] | HttpProblem:
        """All parts in order, or the problem of the form."""
        if self._state is not _State.END:
            inside = f" inside {self._named}" if self._head else ""
            self._fail(
                f"the form ends{inside} before its last boundary: it was cut, or its lines do not "
                "end in CRLF"
            )
        return self._problem or tuple(self._parts)

    def _read_content(self) -> bool:
        """Take content up to the next delimiter; returns whether that has arrived."""
        at = self._buffer.find(self._delimiter)
        found = at >= 0
        size = at if found else max(len(self._buffer) - len(self._delimiter) + 1, 0)
        if self._head is not None:
            self._content += self._buffer[:size]
        del self._buffer[: size + len(self._delimiter) if found else size]
        if self._is_too_large():
            return False
        if found:
            self._end_part()
            self._state = _State.DELIMITER
        return found

    def _is_too_large(self) -> bool:
        if self._head is None:
            return False
        settings, is_file = self._settings, self._head.filename is not None
        limit = settings.file_limit_bytes if is_file else settings.body_limit_bytes
        if len(self._content) <= limit:
            return False
        self._set(problems.too_large(limit, self._named))
        return True

    def _end_part(self) -> None:
        if self._head is not None:
            self._parts.append(attrs.evolve(self._head, data=bytes(self._content)))
            self._head = None
            self._content.clear()

    def _read_delimiter(self) -> bool:
        """Read the bytes after a delimiter; returns whether enough have arrived."""
        if self._buffer.startswith(b"--"):
            self._state = _State.END
            self._buffer.clear()
            return True
        padding = _PADDING.match(self._buffer)
        assert padding is not None, "the pattern also matches an empty string"
        if padding.group().endswith(b"\n"):
            del self._buffer[: padding.end() - 2]  # the line break also begins the headers
            self._state = _State.HEADERS
            return True
        if padding.end() == len(self._buffer) or self._buffer == b"-":
            return False  # the rest may still arrive
        self._fail("a line begins with the form's boundary and goes on; use another boundary")
        return False

    def _read_headers(self) -> bool:
        """Read a part's headers; returns whether they have arrived and are valid."""
        end = self._buffer.find(b"\r\n\r\n", 0, HEADERS_LIMIT_BYTES + 4)
        if end < 0:
            if len(self._buffer) >= HEADERS_LIMIT_BYTES + 4:
                self._fail(f"{self._next} has more than {HEADERS_LIMIT_BYTES} bytes of headers")
            return False
        head = self._part(bytes(self._buffer[2:end]))
        if head is None:
            return False
        if len(self._parts) == self._settings.parts_max:
            self._set(problems.too_large(self._settings.parts_max, "the form", "parts"))
            return False
        self._head = head
        del self._buffer[: end + 4]
        self._state = _State.CONTENT
        return True

    def _part(self, lines: bytes) -> Part | None:
        """The part with these headers, still without content."""
        try:
            headers = read_headers(lines)
        except ValueError as error:
            self._fail(f"{self._next} has an invalid header: {error}")
            return None
        disposition, options = parse_options_header(headers.get("content-disposition", ""))
        name = options.get("name")
        if disposition.lower() != "form-data" or not name:
            fix = 'write `Content-Disposition: form-data; name="..."`'
            self._fail(f"{self._next} has no name; {fix}")
            return None
        return Part(name, b"", headers.get("content-type", ""), options.get("filename"))

    @property
    def _next(self) -> str:
        return f"part {len(self._parts) + 1} of the form"

    @property
    def _named(self) -> str:
        return f"part {self._head.name[:_SHOWN]!r}" if self._head else self._next

    def _fail(self, detail: str) -> None:
        self._set(problems.bad_body(detail))

    def _set(self, problem: HttpProblem) -> None:
        if self._problem is None:
            self._problem = problem
        self._state = _State.FAILED
        self._buffer.clear()
        self._content.clear()
        self._parts.clear()


def read_headers(lines: bytes) -> dict[str, str]:
    """A part's headers, by name in lower case; of headers with the same name, the first counts.

    Raises:
        ValueError: a line is not a header, or not UTF-8.
    """
    headers: dict[str, str] = {}
    for line in filter(None, lines.split(b"\r\n")):
        name, colon, value = line.decode().partition(":")
        if not colon or name != name.strip():
            raise ValueError(f"{line[:_SHOWN]!r} is not `Name: value`")
        headers.setdefault(name.lower(), value.strip(" \t"))
    return headers
