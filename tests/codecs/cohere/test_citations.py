"""What Cohere is asked to cite, and how its citations are read."""

from __future__ import annotations

import json

import attrs
import pytest
from cohere.types import Document

from orchestra.answers import Completion
from orchestra.citations import Citation, Span
from orchestra.codecs.cohere.citations import cited
from orchestra.codecs.cohere.dialect import CohereDialect
from orchestra.errors import CapabilityError
from orchestra.values import ChatRequest, FilePart, Json, JsonOutput, Message, TextPart

DIALECT = CohereDialect()
PIECES = FilePart(
    b"one two",
    "text/plain",
    "B (https://b.test/)",
    passages=("one", "two"),
    citations=True,
    source="https://b.test/",
)
FILES = (
    FilePart(b"not cited", "text/plain", "n.txt"),
    FilePart(b"Grass is green.", "text/plain", "a.txt", citations=True),
    PIECES,
)


def body_of(*parts: FilePart | TextPart) -> Json:
    request = ChatRequest((Message("user", (*parts, TextPart("So?"))),))
    body: Json = json.loads(DIALECT.ask("command", request, stream=False).body)
    return body


def test_files_to_be_cited_are_documents_and_others_are_text() -> None:
    body = body_of(*FILES)
    assert body["documents"] == [
        {"id": "file-1", "data": {"text": "Grass is green.", "title": "a.txt"}},
        {"id": "file-2-0", "data": {"text": "one", "title": "B", "url": "https://b.test/"}},
        {"id": "file-2-1", "data": {"text": "two", "title": "B", "url": "https://b.test/"}},
    ]
    assert all(Document(**each).data for each in body["documents"])
    (message,) = body["messages"]
    assert message["content"] == "\nn.txt:\n\nnot cited\nSo?"
    assert "documents" not in body_of(FILES[0])


def test_a_citation_tells_which_file_and_passage_it_is_of() -> None:
    """Cohere sends back the documents that it cites, with their ids."""
    sources = [
        {"type": "document", "id": each["id"], "document": {"id": each["id"], **each["data"]}}
        for each in body_of(*FILES)["documents"]
    ]
    passage = {"start": 0, "end": 2, "text": "It", "type": "TEXT_CONTENT", "sources": sources}
    message = {"content": [{"type": "text", "text": "It is"}], "citations": [passage]}
    answer = {"id": "a", "message": message, "finish_reason": "COMPLETE"}
    assert Completion.of(DIALECT.decode(json.dumps(answer).encode())).citations == (
        Citation(0, 2, "Grass is green.", "a.txt", "", 1),
        Citation(0, 2, "one", "B", "https://b.test/", 2, Span("blocks", 0, 1)),
        Citation(0, 2, "two", "B", "https://b.test/", 2, Span("blocks", 1, 2)),
    )


@pytest.mark.parametrize("id_", ["doc:0", "file-", "file-x", "file-1-", "my file-1", "file-\u0661"])
def test_an_id_that_is_not_ours_is_the_source(id_: str) -> None:
    (found,) = cited({"start": 0, "end": 2, "sources": {"id": id_, "document": {"text": "x"}}})
    assert found.citations == (Citation(0, 2, "x", source=id_),)


def test_an_answer_in_json_that_cites_files_is_refused() -> None:
    request = ChatRequest((Message("user", FILES),), output=JsonOutput({"type": "object"}))
    with pytest.raises(CapabilityError, match="in JSON and cite files"):
        DIALECT.ask("command", request, stream=False)
    plain = attrs.evolve(request, messages=(Message("user", FILES[:1]),))
    assert b"response_format" in DIALECT.ask("command", plain, stream=False).body


def test_a_file_that_is_not_text_is_refused() -> None:
    with pytest.raises(CapabilityError, match="cannot be sent to Cohere"):
        body_of(FilePart(b"%PDF-", citations=True))
