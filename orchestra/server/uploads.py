"""Forms as they arrive: read part by part, within a time, and within a memory for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterable

import attrs
import trio

from orchestra.server import problems
from orchestra.server.multipart import Form, FormLimits, Part, boundary_of
from orchestra.server.problems import HttpProblem
from orchestra.server.settings import Settings


@attrs.define(eq=False)
class Uploads:
    """The forms that are arriving. Rule: what is counted is given back, however it ends."""

    _settings: Settings
    _arriving_bytes: int = 0

    async def read(
        self, body: AsyncIterable[bytes], content_type: str, length: int | None
    ) -> tuple[Part, ...] | HttpProblem:
        """The parts of a form of this length, None where it is not announced.

        Nothing is written to a disk. A form that cannot be read is left where that is known.
        """
        boundary = boundary_of(content_type)
        if isinstance(boundary, HttpProblem):
            return boundary
        settings = self._settings
        limit = settings.upload_limit_bytes
        size = limit if length is None else length
        if size > limit:
            return problems.too_large(limit, "the form")
        if self._arriving_bytes + size > settings.uploads_limit_bytes:
            return problems.too_busy("too many files are arriving at the moment; try again")
        self._arriving_bytes += size
        try:
            with trio.move_on_after(settings.upload_timeout_s):
                return await self._read(body, boundary, size)
        finally:
            self._arriving_bytes -= size
        detail = f"the form did not arrive within {settings.upload_timeout_s:g} s"
        return problems.by_status(408, "Request Timeout", detail)

    async def _read(
        self, body: AsyncIterable[bytes], boundary: str, size: int
    ) -> tuple[Part, ...] | HttpProblem:
        settings = self._settings
        form = Form(
            boundary,
            FormLimits(
                parts_max=settings.parts_max,
                field_limit_bytes=settings.body_limit_bytes,
                file_limit_bytes=settings.file_limit_bytes,
            ),
        )
        seen = 0
        async for data in body:
            seen += len(data)
            if seen > size:
                return problems.too_large(size, "the form")
            if (problem := form.feed(data)) is not None:
                return problem
        return form.close()
