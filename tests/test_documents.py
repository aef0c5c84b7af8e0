"""Documents: what a file is and says, or clearly that it does not say it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.documents import _CHARSETS, MEDIA_TYPES, Document
from orchestra.errors import DocumentError


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff")), st.booleans())
def test_text_is_what_was_written(text: str, marked: bool) -> None:
    """In UTF-8 where nobody says otherwise, with a byte order mark or without."""
    data = text.encode("utf-8-sig" if marked else "utf-8")
    assert Document("notes", data, "text/plain").text == text


@given(
    st.binary(),
    st.text(),
    st.text() | st.sampled_from(sorted(_CHARSETS)).map("a/b;charset={}".format),
)
def test_whatever_it_is_it_says_text_or_names_itself(data: bytes, name: str, kind: str) -> None:
    document = Document(name, data, kind)
    with suppress(DocumentError):
        assert isinstance(document.text, str)
    assert repr(name[:200]) in str(document.error("is wrong"))


@pytest.mark.parametrize(
    ("name", "given_", "media_type"),
    [
        ("a.md", "", "text/markdown"),
        ("A.PDF", "application/octet-stream", "application/pdf"),
        ("a.md", "text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ("a.xyz", "", "application/octet-stream"),
        ("pdf", "", "application/pdf"),
        ("", "", "application/octet-stream"),
    ],
)
def test_a_name_tells_what_nobody_says(name: str, given_: str, media_type: str) -> None:
    assert Document(name, b"", given_).media_type == media_type


def test_every_ending_is_of_a_kind() -> None:
    assert all(Document(f"x.{ending}", b"").kind == kind for ending, kind in MEDIA_TYPES.items())


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("windows-1252", b"caf\xe9", "café"),
        ('"ISO_8859_1"', b"caf\xe9", "café"),
        ("UTF-16", "café".encode("utf-16"), "café"),
        ("Shift_JIS", b"\x82\xa0", "あ"),
    ],
)
def test_a_charset_is_obeyed(charset: str, data: bytes, text: str) -> None:
    assert Document("a", data, f"text/plain; format=flowed; charset={charset}").text == text


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            Document("a.txt", b"caf\xe9"),
            "is not utf-8 text, at byte 3; if it has another charset",
        ),
        (
            Document("a", b"", "text/plain; charset=zlib"),
            "has the charset 'zlib'; send UTF-8, or one of",
        ),
        (Document("a.bin", b"a\0b"), "is not text: it has NUL characters"),
        (Document("a.pdf", b""), "is a PDF: read it with `text_of`"),
        (Document("a", b"%PDF-1.7"), "is a PDF"),
    ],
)
def test_what_is_no_text_says_what_to_do(document: Document, message: str) -> None:
    with pytest.raises(DocumentError, match="the document 'a") as caught:
        _ = document.text
    assert message in str(caught.value)


def test_a_text_about_pdfs_is_text() -> None:
    assert Document("a.md", b"%PDF- begins a PDF").text == "%PDF- begins a PDF"


def test_a_document_does_not_show_its_bytes() -> None:
    assert "secret" not in repr(Document("a", b"secret"))
