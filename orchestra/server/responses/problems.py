"""Problems for clients: RFC 9457 JSON with a status, a description, and the place of the error.

Pure. `type` is stable, for programs; `title` and `detail` are for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from orchestra.event_lines import written
from orchestra.nearest import did_you_mean

MEDIA_TYPE = "application/problem+json"
_TYPES = "urn:problem-type:orchestra:"
RETRY_SOON = (("Retry-After", "1"),)
"""The header of problems after which the same request may succeed in a second."""
OF_SERVER = "GET /v1/pipelines lists what is served, and /docs has the whole API"
OF_OPENAI = (
    "of OpenAI's API there are POST /v1/chat/completions, POST /v1/responses, POST /v1/embeddings "
    "and GET /v1/models; a client's base URL ends in /v1"
)
OF_ANTHROPIC = (
    "of Anthropic's API there are POST /v1/messages, POST /v1/messages/count_tokens and GET "
    "/v1/models; a client's base URL ends before /v1"
)
"""The paths that exist, for clients whose path does not, or has `/v1` twice or not at all."""


class Fault(msgspec.Struct, frozen=True):
    """A wrong field: its name, its place (a JSON pointer), and what is wrong with it."""

    field: str
    pointer: str
    detail: str


class HttpProblem(msgspec.Struct, frozen=True):
    """The reason why a request failed.

    `code` is the stable end of the problem's type; `faults` are the wrong fields, the first of
    which is also in `field`.
    """

    status: int
    code: str
    title: str
    detail: str
    faults: tuple[Fault, ...] = ()
    extras: tuple[tuple[str, object], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    media_type: str = MEDIA_TYPE

    def encode(self) -> bytes:
        """The problem as JSON."""
        return written(self.body)

    @property
    def body(self) -> dict[str, Any]:
        """What `encode` writes."""
        body: dict[str, Any] = {
            "type": _TYPES + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.faults:
            body["field"] = self.faults[0].field
            body["errors"] = [{"pointer": f.pointer, "detail": f.detail} for f in self.faults]
        return body | dict(self.extras)


class Encoded(msgspec.Struct, frozen=True):
    """A response that is encoded already; without a body it has only a head."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    media_type: str = "application/json"

    def encode(self) -> bytes:
        """The body."""
        return self.body


Told: TypeAlias = HttpProblem | Encoded
"""A problem in any format, or another response of a layer."""


def unknown_pipeline(name: str, known: Iterable[str]) -> HttpProblem:
    """No pipeline has this name; the detail lists similar or all names."""
    known = sorted(known)
    hint = did_you_mean(name, known) or f"served here: {', '.join(known) or 'none'}"
    detail = f"no pipeline is named {name[:100]!r}; {hint}"
    return HttpProblem(404, "unknown-pipeline", "There is no such pipeline.", detail)


def pipeline_only_as_model(name: str) -> HttpProblem:
    """The pipeline takes a `ChatRequest`, so it is used like a model."""
    detail = (
        f"pipeline {name[:100]!r} takes a `ChatRequest`: send its name as `model` to "
        "POST /v1/chat/completions"
    )
    return HttpProblem(404, "asked-as-model", "The pipeline is used like a model.", detail)


def bad_body(detail: str) -> HttpProblem:
    """The body cannot be read as a request for a run."""
    return HttpProblem(400, "bad-body", "The request's body cannot be read.", detail)


def two_lengths() -> HttpProblem:
    """The body's length is given in two ways: a proxy may have read another request than we did."""
    detail = "it has both `Content-Length` and `Transfer-Encoding`; send only one of them"
    closed = (("Connection", "close"),)  # the bytes after it are not a request (RFC 9112, 6.1)
    return msgspec.structs.replace(bad_body(detail), headers=closed)


def bad_inputs(faults: Sequence[Fault]) -> HttpProblem:
    """Some inputs are missing, unknown or of the wrong type; the detail names each of them."""
    detail = "; ".join(fault.detail for fault in faults)
    return HttpProblem(
        422, "bad-inputs", "An input is missing, unknown or wrong.", detail, tuple(faults)
    )


def bad_media_type(given: str, *, forms: bool = True) -> HttpProblem:
    """The body's media type is not supported; `forms` says whether forms are."""
    given = f"is {given[:100]}" if given else "has no media type"
    wanted = "application/json or multipart/form-data" if forms else "application/json"
    detail = f"the body {given}; send {wanted}"
    title = "The body must be JSON or a form." if forms else "The body must be JSON."
    return HttpProblem(415, "bad-media-type", title, detail)


def bad_coding(given: str) -> HttpProblem:
    """The body is compressed. This is not supported, since a kilobyte may become a gigabyte."""
    detail = f"the body has `Content-Encoding: {given[:100]}`; send it uncompressed"
    headers = (("Accept-Encoding", "identity"),)
    title = "The body may not be compressed."
    return HttpProblem(415, "bad-content-encoding", title, detail, headers=headers)


def not_acceptable(accept: str, offers: Iterable[str]) -> HttpProblem:
    """The client accepts none of the available formats."""
    detail = f"`Accept: {accept[:200]}` allows none of {', '.join(offers)}"
    return HttpProblem(406, "not-acceptable", "The response has no acceptable format.", detail)


def too_large(limit: int, what: str = "the body", unit: str = "bytes") -> HttpProblem:
    """The body, or the named part of it, is larger than the server allows."""
    detail = f"{what} is larger than {limit} {unit}"
    return HttpProblem(413, "body-too-large", "The body is too large.", detail)


def target_too_long(limit_bytes: int) -> HttpProblem:
    """The path and the query are longer than the server reads."""
    detail = f"the path and the query have more than {limit_bytes} bytes; send a POST with a body"
    return HttpProblem(414, "target-too-long", "The address is too long.", detail)


def too_many_headers(limit: int, unit: str = "headers") -> HttpProblem:
    """There are more headers, or bytes in them, than the server reads."""
    detail = f"there are more than {limit} {unit}"
    return HttpProblem(431, "too-many-headers", "There are too many headers.", detail)


def too_busy(detail: str = "this server allows no more runs at once; try again") -> HttpProblem:
    """A limit of the server is reached; the same request may succeed a little later."""
    return HttpProblem(503, "too-busy", "The server is full.", detail, headers=RETRY_SOON)


def state_unreachable(
    detail: str = "runs cannot be looked up at the moment; try again",
) -> HttpProblem:
    """The state (which has the runs and the limits' counts) does not answer at the moment."""
    return HttpProblem(
        503, "state-unreachable", "The state cannot be reached.", detail, headers=RETRY_SOON
    )


def server_failed() -> HttpProblem:
    """The server failed."""
    return by_status(500, "Internal Server Error", "the server failed; its log says why")


def not_found(path: str, hint: str = OF_SERVER) -> HttpProblem:
    """No route has this path; `hint` names paths that the client can request."""
    detail = f"there is nothing at {path[:200]!r}; {hint}"
    return HttpProblem(404, "not-found", "There is nothing here.", detail)


def no_socket(path: str) -> HttpProblem:
    """The path serves HTTP requests only."""
    detail = f"no WebSocket is served at {path[:200]!r}; open one at /v1/pipelines/{{name}}/ws"
    return HttpProblem(404, "not-found", "There is nothing here.", detail)


def wrong_method(method: str, path: str, allowed: Iterable[str]) -> HttpProblem:
    """The path exists, but does not allow this method."""
    names = ", ".join(sorted(allowed))
    detail = f"{path[:200]!r} does not allow {method[:20]}; send one of: {names}"
    return by_status(405, "Method Not Allowed", detail, (("Allow", names),))


def by_status(
    status: int, title: str, detail: str, headers: tuple[tuple[str, str], ...] = ()
) -> HttpProblem:
    """An error at the level of HTTP, such as a wrong method; its type is made of the title."""
    return HttpProblem(status, title.lower().replace(" ", "-"), title, detail, headers=headers)
