"""Forms: where the network cuts the bytes makes no difference, and no bytes do harm."""

from __future__ import annotations

from contextlib import suppress

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.server.inputs.multipart import (
    HEADERS_LIMIT_BYTES,
    Form,
    Part,
    boundary_of,
    read_headers,
)
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.settings import Settings, is_form

LIMITS = Settings(parts_max=4, body_limit_bytes=1000, file_limit_bytes=2000)


def read(
    chunks: list[bytes], boundary: str = "B", limits: Settings = LIMITS
) -> tuple[Part, ...] | HttpProblem:
    form = Form(boundary, limits)
    for chunk in chunks:
        form.feed(chunk)
    return form.close()


def cut(data: st.DataObject, raw: bytes) -> list[bytes]:
    places = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=8)))
    return [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]


def written(parts: list[Part], boundary: str = "B") -> bytes:
    body = b""
    for part in parts:
        head = f'Content-Disposition: form-data; name="{part.name}"'
        if part.filename is not None:
            head += f'; filename="{part.filename}"'
        if part.content_type:
            head += f"\r\nContent-Type: {part.content_type}"
        body += f"--{boundary}\r\n{head}\r\n\r\n".encode() + part.data + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


plain = st.text(st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters='"\\%'))
parts = st.builds(
    Part,
    name=plain.filter(bool),
    data=st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--", b"\r\n--", b"B\r", b"x"])).map(
        b"".join
    )
    | st.binary(),
    content_type=st.sampled_from(["", "text/plain; charset=utf-8", "application/pdf"]),
    filename=st.none() | plain,
).filter(lambda part: b"\r\n--B" not in b"\r\n" + part.data)


@given(st.lists(parts, max_size=4), st.data())
def test_a_form_is_read_as_it_was_written_wherever_it_is_cut(
    each: list[Part], data: st.DataObject
) -> None:
    assert read(cut(data, written(each))) == tuple(each)


BITS = [
    b"--B",
    b"--B--",
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b"\t",
    b"-",
    b"x",
    b"\xff",
    b'; name="a"',
    b"\r\n\r\n",
]
BITS += [b"Content-Disposition: form-data", b"Content-Type: a", b'; filename="f"', b":", b"%22"]


@given(st.lists(st.sampled_from(BITS)).map(b"".join) | st.binary(), st.data())
@example(b"--B--", None)
def test_any_bytes_are_parts_or_a_problem_the_same_wherever_they_are_cut(
    raw: bytes, data: st.DataObject | None
) -> None:
    whole = read([raw])
    assert isinstance(whole, tuple | HttpProblem)
    if data is not None:
        assert read(cut(data, raw)) == whole
    assert read([raw[at : at + 1] for at in range(len(raw))]) == whole


@given(st.lists(parts, min_size=1, max_size=4), st.data())
def test_a_form_that_was_cut_short_never_looks_complete(
    each: list[Part], data: st.DataObject
) -> None:
    raw = written(each)
    end = data.draw(st.integers(0, len(raw) - len("--\r\n") - 1))
    problem = read([raw[:end]])
    assert isinstance(problem, HttpProblem)
    assert "before its last boundary" in problem.detail


def problem(raw: bytes, limits: Settings = LIMITS) -> HttpProblem:
    found = read([raw], limits=limits)
    assert isinstance(found, HttpProblem)
    return found


@pytest.mark.parametrize(
    ("raw", "status", "detail"),
    [
        (b"", 400, "the form ends before its last boundary: it was cut"),
        (written([Part("a", b"x" * 1001)]), 413, "part 'a' is larger than 1000 bytes"),
        (written([Part("a", b"x" * 2001, "", "f")]), 413, "part 'a' is larger than 2000 bytes"),
        (written([Part("a", b"")] * 5), 413, "the form is larger than 4 parts"),
        (b"--B\r\n\r\n\r\nx\r\n--B--", 400, "part 1 of the form has no name"),
        (b"--B\r\nContent-Disposition: file; name=a\r\n\r\n\r\n--B--", 400, "has no name"),
        (b"--B\r\nx\r\n\r\n\r\n--B--", 400, "part 1 of the form has an invalid header: b'x'"),
        (b"--B\r\n\xff: x\r\n\r\n\r\n--B--", 400, "part 1 of the form has an invalid header"),
        (b"--Bx\r\n", 400, "a line begins with the form's boundary and goes on"),
        (b"--B\r\n" + b"x" * 9000, 400, "part 1 of the form has more than 8192 bytes of headers"),
        (written([Part("a", b"x")])[:-8], 400, "the form ends inside part 'a' before"),
    ],
)
def test_what_is_wrong_with_a_form_names_the_part(raw: bytes, status: int, detail: str) -> None:
    found = problem(raw)
    assert found.status == status
    assert detail in found.detail


def test_a_form_may_have_spaces_behind_a_boundary_and_words_around_it() -> None:
    raw = b"hello\r\n--B \t\r\n" + written([Part("a", b"x")])[5:] + b"good bye --B"
    assert read([raw]) == (Part("a", b"x"),)


def test_a_form_of_nothing_is_nothing() -> None:
    assert read([b"--B--"]) == ()


def test_a_file_may_be_as_large_as_it_may_be() -> None:
    part = Part("a", b"x" * 2000, "", "f")
    assert read([written([part])]) == (part,)


def test_the_first_problem_is_the_answer_for_good() -> None:
    form = Form("B", LIMITS)
    first = form.feed(b"--Bx\r\n")
    assert first is not None
    assert form.feed(written([Part("a", b"")])) is first
    assert form.close() is first
    assert not form._buffer


def test_of_a_form_that_is_refused_nothing_is_kept() -> None:
    form = Form("B", LIMITS)
    form.feed(written([Part("a", b"x"), Part("b", b"y")])[:-5])
    form.feed(b"x" * 10_000)
    assert (bytes(form._buffer), bytes(form._content), form._parts) == (b"", b"", [])


def test_what_waits_in_the_buffer_is_bounded() -> None:
    """Whatever comes, and however long it is; only a part's content is kept."""
    for endless in (b"x", b"\r", b"\r\n--", b"--B ", b"--B\r\nx: y"):
        form = Form("B", attrs.evolve(LIMITS, file_limit_bytes=10**6))
        for _ in range(3000):
            form.feed(endless * 10)
        assert len(form._buffer) <= HEADERS_LIMIT_BYTES + 100


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ('multipart/form-data; boundary="a b?c"', "a b?c"),
        (
            "Multipart/Form-Data; charset=x; BOUNDARY=----WebKitFormBoundaryX",
            "----WebKitFormBoundaryX",
        ),
    ],
)
def test_a_boundary_is_found(content_type: str, boundary: str) -> None:
    assert is_form(content_type)
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "named", ["", "; boundary=", f"; boundary={'x' * 71}", '; boundary="a "', "; boundary=é"]
)
def test_a_boundary_that_cannot_be_one_is_a_problem(named: str) -> None:
    found = boundary_of(f"multipart/form-data{named}")
    assert isinstance(found, HttpProblem)
    assert found.code == "bad-body"


@given(st.binary())
def test_any_lines_are_headers_or_wrong(lines: bytes) -> None:
    with suppress(ValueError):
        assert all(name == name.lower() for name in read_headers(lines))
