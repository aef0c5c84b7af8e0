"""The routes `/openapi.json`, the OpenAPI document, and `/docs`, a page that shows it.

The document has only the pipelines that the caller may run. The page is public, since it contains
no information: it loads the document, with a key if one is needed.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from quart_trio.wrappers import TrioResponse as Response

from orchestra.computed import computed
from orchestra.server import sse
from orchestra.server.front.access import public
from orchestra.server.front.departure import principal
from orchestra.server.front.routes import Route

if TYPE_CHECKING:
    from orchestra.graph.pipelines import Pipeline
    from orchestra.server.front.layers import Admission
    from orchestra.server.settings import Settings

LARGE_SEEN = 10
"""A document with more pipelines is written in a worker thread: each takes up to 1.5 ms."""
KEPT_MAX = 4
"""The most cached documents: on most servers, callers have one or two different sets of rights."""
HTML = "text/html; charset=utf-8"
PAGE = Path(__file__).with_name("docs.html")
_INLINE = r"<(style|script)>(.*?)</\1>"


def with_documents(
    routes: Sequence[Route],
    pipelines: Mapping[str, Pipeline[..., Any]],
    settings: Settings,
    admission: Admission,
) -> list[Route]:
    """The routes with `/openapi.json` and `/docs`; `pipelines` are those that take JSON."""
    documents = Documents(pipelines, settings, admission)
    about = "The OpenAPI 3.1 document of what you may use."
    page = "A page that shows the OpenAPI document."
    found = [
        *routes,
        Route("openapi", "/openapi.json", documents.openapi, about),
        Route("docs", "/docs", documents.page, page, public),
    ]
    documents.routes = found
    return found


class Documents(msgspec.Struct, eq=False):
    """The handlers of `/openapi.json` and `/docs`."""

    pipelines: Mapping[str, Pipeline[..., Any]]
    settings: Settings
    admission: Admission
    routes: Sequence[Route] = ()
    _kept: dict[tuple[str, ...], bytes] = msgspec.field(default_factory=dict)
    """The cached documents, by the names of the pipelines in them."""

    async def openapi(self) -> Response:
        """Answer with the document of the pipelines that the caller may run."""
        scopes = principal().scopes
        seen = tuple(filter(scopes.may_run, self.pipelines))
        body = self._kept.get(seen)
        if body is None:
            body = await computed(partial(self._written, seen), large=len(seen) > LARGE_SEEN)
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            self._kept[seen] = body
        return Response(body, content_type=sse.JSON)

    def _written(self, names: tuple[str, ...]) -> bytes:
        # imported here to keep the server's start fast
        from orchestra.server.openapi.description import document

        seen = {name: self.pipelines[name] for name in names}
        found = document(self.routes, seen, self.settings, self.admission)
        return msgspec.json.encode(found)

    async def page(self) -> Response:
        """Answer with the page; its policy forbids it to load anything from other hosts."""
        text, policy = page()
        headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
        return Response(text, content_type=HTML, headers=headers)


@cache
def page() -> tuple[str, str]:
    """The page, and the security policy that allows only its own script and style."""
    text = PAGE.read_text("utf-8")
    hashes = {
        kind: b64encode(sha256(code.encode()).digest()).decode()
        for kind, code in re.findall(_INLINE, text, re.DOTALL)
    }
    return text, (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; "
        f"style-src 'sha256-{hashes['style']}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
