"""A run's inputs from the parts of a form: files as documents, the rest as text or JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from orchestra.annotations.documents import file_name, takes_documents
from orchestra.documents import Document
from orchestra.engine.inputs import FitInputs
from orchestra.errors import DocumentError
from orchestra.server.inputs.multipart import Part
from orchestra.server.inputs.reading import FAULTS_MAX, NAME_MAX, from_pairs
from orchestra.server.responses.problems import Fault

if TYPE_CHECKING:
    from orchestra.graph.nodes import Input

JSON = "application/json"
TEXT = "text/plain"
_AT = "part:"


def from_form(inputs: Mapping[str, Input], parts: Sequence[Part]) -> tuple[FitInputs, list[Fault]]:
    """The run's inputs, and their faults; without faults the inputs are complete.

    A file becomes a document, and so does every part for an input that takes documents. JSON is
    decoded. Other text is converted to the input's type, as in a query: `5`, `true` and `null` can
    be a number, a boolean and None. Several parts of one name are a list.
    """
    pairs: list[tuple[str, object]] = []
    faults: list[Fault] = []
    for part in parts:
        if part.filename == "" and not part.data:
            continue  # browsers send this for a file field in which no file was chosen
        each = inputs.get(part.name)
        try:
            takes = each is not None and takes_documents(each.annotation)
            pairs.append((part.name, value(part, takes_documents=takes)))
        except (ValueError, RecursionError, DocumentError) as error:
            name = part.name[:NAME_MAX]
            deep = isinstance(error, RecursionError)
            why = "it is nested too deeply" if deep else error
            faults.append(Fault(name, _AT + name, f"part {name!r}: {why}"))
    reported = {fault.field for fault in faults}
    read, others = from_pairs(inputs, pairs, _AT)
    faults += [fault for fault in others if fault.field not in reported]
    return read, faults[:FAULTS_MAX]


def json_bytes(inputs: Mapping[str, Input], parts: Sequence[Part]) -> int:
    """How many bytes of a form are decoded as JSON."""
    takes = {name: takes_documents(each.annotation) for name, each in inputs.items()}
    return sum(
        len(part.data)
        for part in parts
        if _is_json(part, takes_documents=takes.get(part.name, False))
    )


def value(part: Part, *, takes_documents: bool) -> object:
    """The value of a part: a document, decoded JSON, or text.

    Raises:
        DocumentError: the part cannot be decoded as text in its charset.
        ValueError: the part is not valid JSON.
        RecursionError: the part's JSON is nested too deeply.
    """
    if _is_json(part, takes_documents=takes_documents):
        return msgspec.json.decode(part.data)
    is_file = part.filename is not None
    if is_file or takes_documents:
        name = file_name(part.filename or "") or part.name
        return Document(name, part.data, part.content_type or ("" if is_file else TEXT))
    return Document(part.name, part.data, part.content_type or TEXT).text


def _is_json(part: Part, *, takes_documents: bool) -> bool:
    """Whether a part is decoded as JSON: a file for an input that takes documents is not."""
    return part.kind == JSON and not (takes_documents and part.filename is not None)
