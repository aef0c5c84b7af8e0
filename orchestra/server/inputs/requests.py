"""Reads a request for a run: the inputs, and the format of the response.

Pure: turns the parts of a request into an `Asked`, or into the first problem, in the order in
which a client can fix them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from orchestra.codecs.raw_json import invalid_json
from orchestra.computed import LARGE_BYTES
from orchestra.server import sse
from orchestra.server.inputs import reading
from orchestra.server.responses import problems
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.settings import media_type

if TYPE_CHECKING:
    from orchestra.engine.inputs import FitInputs
    from orchestra.graph.pipelines import Pipeline
    from orchestra.server.inputs.multipart import Part


class Request(msgspec.Struct, frozen=True):
    """The parts of a request that matter here; a GET has `query` instead of `body`.

    `form` has the parts of a form that was read already, or the problem that it has. The JSON in
    them may have `json_limit_bytes` together: decoding it holds the interpreter's lock, and takes
    up to fifty times its size in memory.
    """

    accept: str | None = None
    query: Sequence[tuple[str, str]] = ()
    content_type: str = ""
    body: bytes | None = None
    form: tuple[Part, ...] | HttpProblem | None = None
    json_limit_bytes: int = 0

    @property
    def large(self) -> bool:
        """Whether the request is so large that decoding it would delay other runs."""
        form = self.form if isinstance(self.form, tuple) else ()
        return len(self.body or b"") + sum(len(part.data) for part in form) > LARGE_BYTES


class Asked(msgspec.Struct, frozen=True):
    """A run to start, and whether the response is a stream of events."""

    pipeline: Pipeline[..., Any]
    inputs: Mapping[str, object]
    streams: bool


def read(request: Request, pipeline: Pipeline[..., Any]) -> Asked | HttpProblem:
    """The requested run of the pipeline, or the problem of the request."""
    form = sse.choose(request.accept)
    if form is None:
        return problems.not_acceptable(request.accept or "", (sse.JSON, sse.STREAM))
    given = _inputs(request, pipeline)
    if isinstance(given, HttpProblem):
        return given
    return Asked(pipeline, given, form == sse.STREAM)


def sent(request: Request) -> list[bytes]:
    """The inputs as bytes, to compare two valid requests.

    In JSON, spaces and the order of members make no difference; nor does `5.0` instead of `5`.
    """
    if isinstance(request.form, tuple):
        heads = [repr((part.name, part.content_type, part.filename)) for part in request.form]
        return [*(head.encode() for head in heads), *(part.data for part in request.form)]
    body = request.body or b"{}"
    try:
        inputs = _NUMBERS.decode(body).get("inputs", {})
        return [msgspec.json.encode(inputs, order="deterministic")]
    except RecursionError:  # nested almost too deeply to be read: compared as it was sent
        return [body]


def _number(text: str) -> float:
    """The number in a text; an `int` if it is whole and small enough to be exact."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


_EXACT = 2.0**53
_NUMBERS = msgspec.json.Decoder(float_hook=_number)


def _inputs(request: Request, pipeline: Pipeline[..., Any]) -> FitInputs | HttpProblem:
    if request.form is not None:
        if isinstance(request.form, HttpProblem):
            return request.form
        from orchestra.server.inputs import forms  # few requests are forms

        limit = request.json_limit_bytes
        if forms.json_bytes(pipeline.inputs, request.form) > limit:
            return problems.too_large(limit, "the JSON in the form")
        values, faults = forms.from_form(pipeline.inputs, request.form)
    elif request.body is None:
        values, faults = reading.from_query(pipeline.inputs, request.query)
    else:
        body = _object(request.content_type, request.body)
        if isinstance(body, HttpProblem):
            return body
        values, faults = reading.from_json(pipeline.inputs, body)
    return problems.bad_inputs(faults) if faults else values


def _object(content_type: str, body: bytes) -> dict[str, Any] | HttpProblem:
    """The member `inputs` of the body, which must be an object without other members."""
    if media_type(content_type) != sse.JSON:
        return problems.bad_media_type(content_type)
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        return problems.bad_body(invalid_json(body, error))
    if not isinstance(found, dict):
        return problems.bad_body(f"the body is {_kind(found)}; {_SHAPE}")
    given = found.pop("inputs", {})
    if not isinstance(given, dict):
        fault = problems.Fault("inputs", "#/inputs", f"`inputs` is {_kind(given)}; {_SHAPE}")
        return problems.bad_inputs([fault])
    return problems.bad_inputs([_stray(name) for name in list(found)[:1]]) if found else given


def _stray(name: str) -> problems.Fault:
    name = name[: reading.NAME_MAX]
    return problems.Fault(
        name, reading.pointer("#/", name), f"there is no field {name!r}; {_SHAPE}"
    )


def _kind(value: object) -> str:
    """A JSON value's type, by its name in JSON."""
    kinds = {str: "a string", list: "an array", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


_SHAPE = 'send {"inputs": {...}}'
