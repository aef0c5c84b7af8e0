"""Forms as they arrive: read part by part, within a time, and within a memory for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable

import attrs
import trio

from orchestra.server.inputs.multipart import Form, Part, boundary_of
from orchestra.server.responses import problems
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.settings import Settings

SHARE = 2
"""A tenant has at most one in so many of the bytes that all forms may have together."""


@attrs.define(eq=False)
class Upload:
    """A form in memory, and its counted bytes; `parts` are set once it has arrived."""

    _counts: Counter[str]
    tenant: str
    parts: tuple[Part, ...] = ()
    size_bytes: int = 0

    def add(self, count: int) -> None:
        """Count so many bytes more."""
        self.size_bytes += count
        self._counts[self.tenant] += count

    def give_back(self) -> None:
        """Count it no longer. A second call does nothing."""
        self._counts[self.tenant] -= self.size_bytes
        self.size_bytes = 0
        if not self._counts[self.tenant]:
            del self._counts[self.tenant]


@attrs.define(eq=False)
class Uploads:
    """The forms that are arriving, and those whose runs go on.

    Rule: bytes are counted when they arrive, not when they are announced. What was counted is given
    back, however the upload ends.
    """

    _settings: Settings
    _held_bytes: Counter[str] = attrs.field(factory=Counter)
    """The bytes of each tenant with uploads."""

    async def read(
        self, body: AsyncIterable[bytes], content_type: str, length: int | None, tenant: str
    ) -> Upload | HttpProblem:
        """Read a form of this length (None: unknown); it is held until it is given back.

        Nothing is written to disk. Reading stops at the first error.
        """
        boundary = boundary_of(content_type)
        if isinstance(boundary, HttpProblem):
            return boundary
        limit = self._settings.upload_limit_bytes
        size = limit if length is None else length
        if size > limit:
            return problems.too_large(limit, "the form")
        upload = Upload(self._held_bytes, tenant)
        found: HttpProblem | None = None
        whole = False
        try:
            with trio.move_on_after(self._settings.upload_timeout_s):
                found = await self._read(body, boundary, size, upload)
                whole = True
        finally:
            if not whole or found is not None:
                upload.give_back()
        if whole:
            return found or upload
        detail = f"the form did not arrive within {self._settings.upload_timeout_s:g} s"
        return problems.by_status(408, "Request Timeout", detail)

    async def _read(
        self, body: AsyncIterable[bytes], boundary: str, size: int, upload: Upload
    ) -> HttpProblem | None:
        form = Form(boundary, self._settings)
        async for data in body:
            upload.add(len(data))
            if upload.size_bytes > size:
                return problems.too_large(size, "the form")
            if (full := self._full(upload.tenant)) is not None:
                return full
            if (problem := form.feed(data)) is not None:
                return problem
        parts = form.close()
        if isinstance(parts, HttpProblem):
            return parts
        upload.parts = parts
        return None

    def _full(self, tenant: str) -> HttpProblem | None:
        """The problem if this tenant's files, or all files, exceed their limit."""
        most = self._settings.uploads_limit_bytes
        if tenant and self._held_bytes[tenant] > most // SHARE:
            return problems.too_busy(
                f"your files that arrive, or whose runs go on, have more than {most // SHARE} "
                "bytes together; try again when one of those runs has ended"
            )
        if self._held_bytes.total() > most:
            return problems.too_busy("too many files are held at the moment; try again")
        return None
