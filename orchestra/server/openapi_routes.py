"""`/openapi.json`, and `/docs`, a page to read it.

The document tells the pipelines that the caller may run, and no others. The page tells nothing by
itself, so everybody may have it: it asks for the document, with a key if one is needed.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
from quart import request
from quart_trio.wrappers import TrioResponse as Response

from orchestra.server import sse
from orchestra.server.access import KNOWN, PUBLIC
from orchestra.server.arrival import Arrival
from orchestra.server.openapi_operations import HTML
from orchestra.server.routes import Route

if TYPE_CHECKING:
    from orchestra.graph.pipelines import Pipeline
    from orchestra.values import Json

PAGE = Path(__file__).with_name("docs.html")
_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)

Documented = Callable[[Sequence[Route], Mapping[str, "Pipeline[..., Any]"]], "Json"]
"""The document of these routes, for somebody who may run these pipelines."""


def with_documents(
    routes: Sequence[Route], pipelines: Mapping[str, Pipeline[..., Any]], documented: Documented
) -> list[Route]:
    """The routes, and those that tell of all of them."""
    documents = Documents(pipelines, documented)
    found = [
        *routes,
        Route(
            name="openapi",
            path="/openapi.json",
            handler=documents.openapi,
            access=KNOWN,
            summary="What is served to you, as OpenAPI 3.1.",
        ),
        Route(
            name="docs",
            path="/docs",
            handler=documents.page,
            access=PUBLIC,
            summary="A page to read that.",
        ),
    ]
    documents.routes = found
    return found


@attrs.define(eq=False)
class Documents:
    """The handlers of the two."""

    pipelines: Mapping[str, Pipeline[..., Any]]
    documented: Documented
    routes: Sequence[Route] = ()

    async def openapi(self) -> Response:
        """The document for whoever asks."""
        scopes = Arrival.of(request.scope).known().scopes
        seen = {name: each for name, each in self.pipelines.items() if scopes.may_run(name)}
        body = msgspec.json.encode(self.documented(self.routes, seen))
        return Response(body, content_type=sse.JSON, headers={"Cache-Control": "no-store"})

    async def page(self) -> Response:
        """The page; it loads nothing from elsewhere, and its policy forbids that."""
        text, policy = page()
        headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
        return Response(text, content_type=f"{HTML}; charset=utf-8", headers=headers)


@cache
def page() -> tuple[str, str]:
    """The page, and the policy under which a browser runs its script and style and no others."""
    text = PAGE.read_text("utf-8")
    hashes = {
        kind: b64encode(sha256(code.encode()).digest()).decode()
        for kind, code in _INLINE.findall(text)
    }
    return text, (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; "
        f"style-src 'sha256-{hashes['style']}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
