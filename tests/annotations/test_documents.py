"""Documents in JSON: what the schema allows is read, at any place in an annotation."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from typing import Annotated, Any, Literal, NewType, Optional

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.annotations.documents import JsonDocument, file_name, takes_documents
from orchestra.annotations.schemas import object_schema
from orchestra.annotations.stand_ins import read, schema, with_stand_ins
from orchestra.documents import Document
from tests.annotations.kinds import alias


@attrs.frozen
class Bundle:
    cover: Document


def converted(kind: object, value: object) -> Any:
    return msgspec.convert(value, with_stand_ins(kind, JsonDocument), dec_hook=read)


names = st.from_regex(r"[a-z]{1,8}\.(md|txt|pdf)", fullmatch=True)


@given(names, st.text())
def test_text_in_json_is_the_text_of_the_document(name: str, text: str) -> None:
    assert converted(Document, {"name": name, "text": text}) == Document(name, text.encode())


@given(names, st.binary(), st.sampled_from(["", "text/plain", "image/png"]))
def test_base64_in_json_is_the_bytes_of_the_document(name: str, data: bytes, kind: str) -> None:
    value = {"name": name, "data": b64encode(data).decode(), "media_type": kind}
    assert converted(Document, value) == Document(name, data, kind)


JSON = st.none() | st.booleans() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)
ALMOST = st.dictionaries(st.sampled_from(["name", "text", "data", "media_type", "x"]), JSON)


@given(JSON | ALMOST)
def test_any_json_is_a_document_or_refused(value: object) -> None:
    """With the one error that servers tell."""
    with suppress(msgspec.ValidationError):
        assert isinstance(converted(Document, value), Document)


A = Document("a.md", b"a")
A_JSON = {"name": "a.md", "text": "a"}
REPORT = NewType("REPORT", Document)
PAPERS = alias("Papers", "list[Document]")
OF_TWO = alias("OfTwo", "list[T]", "T")
LOOP = alias("Loop", "list[Loop] | dict[str, Loop] | int")


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (list[Document], [A_JSON, A_JSON], [A, A]),
        (Document | None, None, None),
        (Optional[Document], A_JSON, A),  # noqa: UP045 - the old spelling is read too
        (dict[str, Document], {"x": A_JSON}, {"x": A}),
        (Annotated[Document, "a report"], A_JSON, A),
        (tuple[Document, ...], [A_JSON], (A,)),
        (tuple[int, Literal["x"], Document], [1, "x", A_JSON], (1, "x", A)),
        (list[REPORT], [A_JSON], [A]),
        (PAPERS, [A_JSON], [A]),
        (OF_TWO[PAPERS], [[A_JSON]], [[A]]),
        (list[Document], [A], [A]),  # out of a form it has come as one
    ],
)
def test_a_document_is_read_wherever_it_stands(kind: object, value: object, found: object) -> None:
    assert converted(kind, value) == found
    assert takes_documents(kind)


@pytest.mark.parametrize(
    "kind", [str, list[str], Literal["a"], int | None, Bundle, Any, object, LOOP]
)
def test_an_annotation_without_documents_stays_what_it_is(kind: object) -> None:
    assert with_stand_ins(kind, JsonDocument) is kind
    assert not takes_documents(kind)


def test_in_a_class_of_its_own_a_document_is_a_name_and_base64() -> None:
    value = {"cover": {"name": "a.md", "data": "YQ=="}}
    assert converted(Bundle, value) == Bundle(A)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a.md", "Expected a document, "),
        ({"name": "a"}, "A document has either text or data"),
        ({"name": "a", "text": "a", "data": "YQ=="}, "A document has either text or data"),
        ({"name": "a", "data": "?"}, "A document's data is base64"),
        ({"text": "a"}, "A document's name and media_type are text"),
        ({"name": "a", "text": "a", "size": 1}, "A document has no member 'size'"),
    ],
)
def test_what_is_no_document_is_told(value: object, message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        converted(Document, value)


def test_text_in_json_has_no_charset_any_more() -> None:
    found = converted(
        Document, {"name": "a", "text": "é", "media_type": "text/plain; charset=latin-1"}
    )
    assert found.text == "é"


def test_a_schema_tells_both_forms() -> None:
    told = object_schema({"document": JsonDocument}, {}, schema)["properties"]["document"]
    for each, content in zip(told["oneOf"], ("text", "data"), strict=True):
        assert each["required"] == ["name", content]
        assert each["properties"].keys() == {"name", "media_type", content}
        assert each["additionalProperties"] is False


class Foreign:
    """Nothing that JSON can hold."""


def test_a_class_that_is_no_document_is_no_document() -> None:
    with pytest.raises(NotImplementedError):
        schema(Foreign)
    with pytest.raises(NotImplementedError):
        read(Foreign, {})


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\a\r\nb.md", "ab.md"),
        ("x" * 300, "x" * 255),
        ("folder/", ""),
    ],
)
def test_a_file_name_has_no_folder(name: str, kept: str) -> None:
    assert file_name(name) == kept
