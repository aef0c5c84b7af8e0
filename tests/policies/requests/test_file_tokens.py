"""Tokens of files: as many pages as there are, wherever a PDF says so."""

from __future__ import annotations

import zlib
from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter

from orchestra.policies.requests.file_tokens import (
    PAGES_MAX,
    UNPACKED_BYTES_MAX,
    UNPACKED_TIMES_MAX,
    file_tokens,
    pages_of,
)
from orchestra.values import FilePart
from tests.pdfs import bomb, pdf


def packed(*objects: bytes) -> bytes:
    """A part of a PDF with these objects packed together, as most writers do since 2003."""
    data = zlib.compress(b" ".join(objects))
    head = b"<< /Type /ObjStm /N %d /Filter /FlateDecode /Length %d >>" % (len(objects), len(data))
    return b"7 0 obj\n" + head + b"\nstream\r\n" + data + b"\nendstream\nendobj\n"


@given(st.lists(st.text("ab", max_size=5), max_size=6))
def test_pages_are_as_many_as_a_reader_finds(texts: list[str]) -> None:
    written = pdf(*texts)
    assert pages_of(written) == len(PdfReader(BytesIO(written)).pages) == len(texts)


@given(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=4))
def test_pages_that_are_packed_count_too(plain: int, packs: list[int]) -> None:
    page = b"<</Type/Page/Parent 2 0 R>>"
    others = b"<</Type/Pages/Count 3>> <</Type /PageLabel>>"
    written = page * plain + b"".join(packed(others, *[page] * count) for count in packs)
    assert pages_of(written) == plain + sum(packs)


def test_what_another_program_wrote_is_counted() -> None:
    writer = PdfWriter()
    for _ in range(3):
        writer.add_blank_page(100, 100)
    writer.write(written := BytesIO())
    assert pages_of(written.getvalue()) == 3


@given(st.binary(max_size=50), st.integers(0, 40))
def test_whatever_it_is_it_counts_for_something(data: bytes, cut: int) -> None:
    for written in (data, packed(data)[:cut], b"/ObjStm stream\n" + data):
        found = file_tokens(FilePart(written), page_tokens=5_000, bytes_per_token=3)
        assert found == (pages_of(written) * 5_000 or -(-len(written) // 3))


def test_a_text_is_no_pdf_though_it_speaks_of_pages() -> None:
    text = FilePart(b"/Type /Page", "text/plain")
    assert file_tokens(text, page_tokens=5_000, bytes_per_token=11) == 1


def test_no_more_is_unpacked_than_is_allowed() -> None:
    """A request of a megabyte could else be a gigabyte, which every estimate of it unpacks."""
    page, blank = b"<</Type/Page>>", b" " * (UNPACKED_BYTES_MAX - 1)
    rest = b"%" * (UNPACKED_BYTES_MAX // UNPACKED_TIMES_MAX)  # what makes the file large
    assert pages_of(packed(page) + packed(blank[:-5000]) + packed(page) + rest) == 2
    assert pages_of(packed(page) + packed(blank, b" " * 100, page) + rest) == 0
    assert pages_of(packed(page) + packed(blank, b" ") + packed(page) + rest) == 0
    assert pages_of(packed(page) + packed(blank[:-5000]) + packed(page)) == 0
    assert pages_of(packed(b"") * (UNPACKED_BYTES_MAX // 1024) + packed(page)) == 0
    assert pages_of(b"/Type/Page " * 2 * PAGES_MAX) == PAGES_MAX
    assert pages_of(bomb(1_000_000)) == 1


@given(st.integers(1, UNPACKED_BYTES_MAX), st.integers(0, 100_000))
def test_many_small_files_unpack_no_more_than_one_large_one(size: int, rest: int) -> None:
    """A megabyte may have 360 files that unpack to two megabytes each."""
    written = packed(b"<</Type/Page>>" + b" " * size) + b"%" * rest
    assert pages_of(written) == (size + 15 < len(written) * UNPACKED_TIMES_MAX)
