"""The text of a PDF, page by page, in a process of its own.

`python pdf_process.py '{"pages_max": 10, ...}' < report.pdf` writes JSON: `{"pages": [...]}`, or
`{"error": "why"}`. A hostile file can make its reader loop or allocate gigabytes. A thread that
does so cannot be stopped, but the kernel can stop a process. A process also keeps the work out of
the server's interpreter, so that no stream stalls while a file is read.

Rules of the file: nothing of orchestra is imported, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import io
import json
import logging
import resource
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from orchestra.surrogates import replaced

if TYPE_CHECKING:
    from pypdf import PdfReader

FILES_MAX = 64
"""The most open files: enough for Python's imports."""


class RefusedPdfError(Exception):
    """The reason why a file is not read; the message continues "the document ..."."""


def confine(memory_limit_bytes: int, timeout_s: float) -> None:
    """Have the kernel end this process if it exceeds one of these limits; lower ones are kept."""
    for what, limit in (
        (resource.RLIMIT_AS, memory_limit_bytes),
        (resource.RLIMIT_CPU, int(timeout_s) + 1),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, FILES_MAX),
    ):
        most = resource.getrlimit(what)[1]
        lower = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(what, (lower, lower))
    signal.setitimer(signal.ITIMER_REAL, timeout_s)  # no handler is set, so the signal kills


def main(source: BinaryIO, target: TextIO, pages_max: int, chars_max: int) -> None:
    """Write the text of a PDF, or why it cannot be read."""
    result: dict[str, object]
    try:
        result = {"pages": list(pages(source.read(), pages_max, chars_max))}
    except RefusedPdfError as refusal:
        result = {"error": str(refusal)}
    except MemoryError:
        result = {"error": "needs more memory than a PDF may have: see `memory_limit_bytes`"}
    except RecursionError:
        result = {"error": "is not a readable PDF: it is nested too deeply"}
    except Exception as error:  # noqa: BLE001 - a broken file may raise anything
        result = {"error": f"is not a readable PDF: {type(error).__name__}: {error!s:.200}"}
    json.dump(result, target)


def pages(data: bytes, pages_max: int, chars_max: int) -> Iterator[str]:
    """The text of each page.

    Raises:
        RefusedPdfError: the PDF exceeds a bound, or is encrypted.
        Exception: whatever pypdf raises for a broken file.
    """
    reader = _opened(data)
    count = len(reader.pages)
    if count > pages_max:
        raise RefusedPdfError(f"has {count} pages, {pages_max} may be read: see `pages_max`")
    chars = 0
    for page in reader.pages:
        text = cleaned(page.extract_text())
        chars += len(text)
        if chars > chars_max:
            raise RefusedPdfError(f"has more than {chars_max} characters: see `chars_max`")
        yield text


def cleaned(text: str) -> str:
    """The text without lone surrogates and NUL characters, which many programs cannot handle."""
    return replaced(text).replace("\0", "")


def _opened(data: bytes) -> PdfReader:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError

    try:
        reader = PdfReader(io.BytesIO(data))
        if not reader.is_encrypted or reader.decrypt(""):
            return reader
    except (DependencyError, FileNotDecryptedError):
        pass
    raise RefusedPdfError("is encrypted; send it without a password")


if __name__ == "__main__":
    bounds: dict[str, Any] = json.loads(sys.argv[1])
    logging.disable()  # pypdf's warnings about files
    confine(bounds["memory_limit_bytes"], bounds["timeout_s"])
    main(sys.stdin.buffer, sys.stdout, bounds["pages_max"], bounds["chars_max"])
