"""Reads forms as they arrive, within a time limit, and within a memory limit for all of them."""

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
"""A tenant's forms may have at most this fraction (1 / `SHARE`) of the bytes for all forms."""


@attrs.define(eq=False)
class Upload:
    """A form in memory, and its counted bytes; `parts` are set once it has arrived."""

    _counts: Counter[str]
    tenant: str
    parts: tuple[Part, ...] = ()
    size_bytes: int = 0

    def add(self, count: int) -> None:
        """Count more bytes of this form."""
        self.size_bytes += count
        self._counts[self.tenant] += count

    def give_back(self) -> None:
        """Stop counting the bytes of this form. A second call does nothing."""
        self._counts[self.tenant] -= self.size_bytes
        self.size_bytes = 0
        if not self._counts[self.tenant]:
            del self._counts[self.tenant]


@attrs.define(eq=False)
class Uploads:
    """Counts the bytes of all forms that are arriving, or whose runs are in flight.

    Rule: bytes are counted when they arrive, not when they are announced. Counted bytes are given
    back, however the upload ends.
    """

    _settings: Settings
    _held_bytes: Counter[str] = attrs.field(factory=Counter)
    """The bytes of each tenant with uploads."""

    async def read(
        self, body: AsyncIterable[bytes], content_type: str, length: int | None, tenant: str
    ) -> Upload | HttpProblem:
        """Read a form of this length (None: unknown); its bytes count until `give_back` is called.

        Nothing is written to disk. Reading stops at the first problem, which is returned. After a
        problem or a cancellation, the bytes no longer count.
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
        """The problem if this tenant's forms, or all forms, exceed their limit."""
        most = self._settings.uploads_limit_bytes
        if tenant and self._held_bytes[tenant] > most // SHARE:
            return problems.too_busy(
                f"your forms that are arriving, or whose runs are in flight, have more than "
                f"{most // SHARE} bytes together; try again when one of those runs has ended"
            )
        if self._held_bytes.total() > most:
            return problems.too_busy("all forms in memory have too many bytes; try again")
        return None
