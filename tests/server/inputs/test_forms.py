"""Inputs from forms: files are documents, JSON is JSON, and text is what the input asks for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.documents import Document
from orchestra.server.inputs.forms import from_form
from orchestra.server.inputs.multipart import Form, Part
from orchestra.server.inputs.reading import FAULTS_MAX, form_schema
from orchestra.server.inputs.requests import Asked, Request, read
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.settings import Settings
from tests.server.inputs.test_reading import inputs
from tests.server.served import count

KINDS = inputs(
    document=Document,
    others=(list[Document], []),
    question=(str, ""),
    top=(int, 5),
    loud=(bool, False),
    labels=(dict[str, int], {}),
    words=(list[str], []),
)
PDF = Part("document", b"%PDF-", "application/pdf", "C:\\files\\a.pdf")


def read_parts(*parts: Part) -> dict[str, object]:
    found, faults = from_form(KINDS, [PDF, *parts])
    assert faults == []
    assert found.pop("document") == Document("a.pdf", b"%PDF-", "application/pdf")
    return found


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ([Part("question", b"caf\xc3\xa9?")], {"question": "café?"}),
        ([Part("question", b"caf\xe9", "text/plain; charset=latin-1")], {"question": "café"}),
        ([Part("question", b"5"), Part("top", b"5")], {"question": "5", "top": 5}),
        ([Part("loud", b"true")], {"loud": True}),
        ([Part("words", b"a"), Part("words", b"b")], {"words": ["a", "b"]}),
        ([Part("words", b"a")], {"words": ["a"]}),
        ([Part("words", b'["a"]', "application/json")], {"words": ["a"]}),
        ([Part("labels", b'{"a": 1}', "application/json; charset=utf-8")], {"labels": {"a": 1}}),
        ([Part("labels", b'{"a": 1}', "application/json", "blob")], {"labels": {"a": 1}}),
        (
            [Part("others", b"1", "", "1.md"), Part("others", b"2", "", "2.md")],
            {"others": [Document("1.md", b"1"), Document("2.md", b"2")]},
        ),
        (
            [Part("others", b"{}", "application/json", "a.json")],
            {"others": [Document("a.json", b"{}")]},
        ),
        ([Part("others", b"text")], {"others": [Document("others", b"text", "text/plain")]}),
        (
            [Part("others", b'[{"name": "a.md", "text": "a"}]', "application/json")],
            {"others": [Document("a.md", b"a")]},
        ),
        ([Part("others", b"", "application/octet-stream", "")], {}),  # nobody has chosen a file
    ],
)
def test_a_part_is_what_its_input_asks_for(parts: list[Part], found: dict[str, Any]) -> None:
    assert read_parts(*parts) == found


@pytest.mark.parametrize(
    ("part", "detail"),
    [
        (
            Part("question", b"caf\xe9"),
            "part 'question': the document 'question' (text/plain) is no",
        ),
        (
            Part("question", b"%PDF-", "application/pdf"),
            "part 'question': the document 'question' is a PDF",
        ),
        (Part("labels", b"{", "application/json"), "part 'labels': Input data was truncated"),
        (
            Part("labels", b"[" * 10**5, "application/json"),
            "part 'labels': it is nested too deeply",
        ),
        (Part("top", b"five"), "input `top`: expected `int`, got `str`"),
        (
            Part("labels", b'{"a": 1}'),
            "input `labels`: expected `object`, got `str`; to send JSON, give this part "
            "`Content-Type: application/json`",
        ),
        (Part("question", b"a", "", "a.txt"), "input `question`: expected `str`, got `Document`"),
        (Part("tpo", b"5"), "there is no input 'tpo'; did you mean 'top'?"),
    ],
)
def test_what_is_wrong_is_told_with_its_part(part: Part, detail: str) -> None:
    (fault,) = from_form(KINDS, [PDF, part])[1]
    assert detail in fault.detail
    assert (fault.field, fault.pointer) == (part.name, f"part:{part.name}")


def test_everything_that_is_wrong_with_a_form_is_told_at_once() -> None:
    _, faults = from_form(KINDS, [Part("question", b"\xff"), Part("top", b"x"), Part("y", b"")])
    assert [fault.field for fault in faults] == ["question", "y", "document", "top"]
    _, faults = from_form(KINDS, [Part("document", b"{", "application/json")])
    assert [fault.field for fault in faults] == ["document"]
    _, faults = from_form(KINDS, [Part("question", b"\xff")] * 100)
    assert len(faults) == FAULTS_MAX


any_parts = st.builds(
    Part,
    name=st.sampled_from(sorted(KINDS)) | st.text(),
    data=st.binary()
    | st.sampled_from([b"5", b"{}", b'{"name": "a", "text": "b"}', b"[]", b"null"]),
    content_type=st.sampled_from(["", "application/json", "text/plain; charset=utf-7", "a"]),
    filename=st.none() | st.text(),
)


@given(st.lists(any_parts, max_size=5))
@settings(max_examples=50)
def test_any_parts_are_inputs_or_faults(parts: list[Part]) -> None:
    found, faults = from_form(KINDS, parts)
    assert faults or "document" in found


BITS = [
    b"--B\r\n",
    b"\r\n",
    b"--B--",
    b'Content-Disposition: form-data; name="count"',
    b"5",
    b"\xff",
]


@given(st.lists(st.sampled_from(BITS)).map(b"".join))
def test_any_body_is_a_run_or_a_problem(body: bytes) -> None:
    form = Form("B", Settings())
    form.feed(body)
    request = Request(content_type="multipart/form-data; boundary=B", form=form.close())
    assert isinstance(read(request, count), Asked | HttpProblem)


def test_the_schema_of_a_form_has_files() -> None:
    told = form_schema(KINDS)["properties"]
    file = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
    assert told["document"] == file
    assert told["others"] == {"type": "array", "items": file, "default": []}
    assert told["top"] == {"type": "integer", "default": 5}
