"""Reading documents: what they say, page by page; and no file can hang the reader or fill memory."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pypdf
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import pipeline
from orchestra.accounts import Caller
from orchestra.documents import Document
from orchestra.errors import BindingError, DocumentError
from orchestra.policies.account import PRESENT, NoAccount
from orchestra.steps.read import cut, pages, text_of
from orchestra.steps.retrieve import nearest
from orchestra.steps.texts import pdf as pdf_reader
from orchestra.steps.texts import pdf_process
from orchestra.steps.texts.text import split
from orchestra.testing.simulate import simulate
from orchestra.testing.world import World
from orchestra.values import Passage, Purpose, Vector
from tests.pdfs import bomb, pdf


def paged(document: Document, **bounds: Any) -> list[Passage]:
    async def main() -> Any:
        with trio.fail_after(60):
            return await pages.call(document, **bounds)

    return trio.run(main)


def refused(data: bytes, **bounds: Any) -> str:
    with pytest.raises(DocumentError, match=r"the document 'a\.pdf' ") as caught:
        paged(Document("a.pdf", data), **bounds)
    return str(caught.value)


def test_a_pdf_is_read_page_by_page() -> None:
    found = paged(Document("a.pdf", pdf("Bees make honey.", "", "Cars need fuel.")))
    assert [(p.text, p.source, p.metadata) for p in found] == [
        ("Bees make honey.", "a.pdf", {"page": 1}),
        ("Cars need fuel.", "a.pdf", {"page": 3}),
    ]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff")))
def test_text_is_one_page_as_it_was(text: str) -> None:
    document = Document("a.md", text.encode())
    found = trio.run(pages.call, document)
    assert [page.text for page in found] == [text] * bool(text.strip())
    assert trio.run(text_of.call, document) == (text if text.strip() else "")


def test_pages_are_joined_by_an_empty_line() -> None:
    assert trio.run(text_of.call, Document("a.pdf", pdf("One.", "Two."))) == "One.\n\nTwo."


def said(data: bytes, pages_max: int = 10, chars_max: int = 1000) -> Any:
    """What the process writes, without its bounds of the kernel."""
    written = io.StringIO()
    pdf_process.main(io.BytesIO(data), written, pages_max, chars_max)
    return json.loads(written.getvalue())


def encrypted() -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf("A secret.")))
    writer.encrypt("password", algorithm="RC4-128")
    target = io.BytesIO()
    writer.write(target)
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "bounds", "error"),
    [
        (pdf(*"abcde"), {"pages_max": 4}, "has 5 pages, 4 may be read: see `pages_max`"),
        (pdf("aaa", "aaa"), {"chars_max": 5}, "has more than 5 characters: see `chars_max`"),
        (encrypted(), {}, "is encrypted; send it without a password"),
        (b"%PDF-1.4\nnothing", {}, "is not a readable PDF: PdfStreamError"),
        (b"", {}, "is not a readable PDF: EmptyFileError"),
        (bomb(80_000_000), {}, "is not a readable PDF: LimitReachedError"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, bounds: dict[str, int], error: str) -> None:
    assert said(data, **bounds)["error"].startswith(error)


def test_a_pdf_cut_anywhere_is_read_or_refused() -> None:
    """A reader of PDFs rebuilds what it can; nothing else than an answer comes out of it."""
    whole = pdf("Bees make honey.", "Cars need fuel.")
    for end in range(0, len(whole), 37):
        assert said(whole[:end]).keys() <= {"pages", "error"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "needs more memory than a PDF may have"),
        (RecursionError(), "is nested too deeply"),
        (KeyError("/Root"), "is not a readable PDF: KeyError: '/Root'"),
    ],
)
def test_whatever_breaks_the_reader_is_told(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise error

    monkeypatch.setattr(pypdf, "PdfReader", breaks)
    assert told in said(b"")["error"]


def test_half_characters_are_made_whole() -> None:
    assert pdf_process.cleaned("a\ud800b\0c") == "a?bc"


def test_a_pdf_that_takes_too_long_is_stopped() -> None:
    """By the kernel, whatever its reader is doing."""
    assert "was not read within 0.01 s: see `timeout_s`" in refused(pdf("a"), timeout_s=0.01)


def test_a_pdf_that_takes_too_much_memory_is_stopped() -> None:
    assert "memory" in refused(bomb(70_000_000), memory_limit_bytes=90 * 1024**2)


def test_a_lower_limit_of_the_service_itself_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody but root may raise one: to try it failed for every file."""
    limited = tmp_path / "python"
    limited.write_text(f'#!/bin/sh\nulimit -t 15\nulimit -n 50\nexec {sys.executable} "$@"\n')
    limited.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(limited))
    assert [page.text for page in paged(Document("a.pdf", pdf("a")))] == ["a"]


def test_a_process_that_says_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert "its process ended with 1" in refused(pdf("a"))


def test_a_refusal_comes_out_of_the_process() -> None:
    assert "has 2 pages, 1 may be read" in refused(pdf("a", "b"), pages_max=1)


def test_a_text_is_bounded_too() -> None:
    with pytest.raises(DocumentError, match="has more than 2 characters"):
        paged(Document("a.md", b"abc"), chars_max=2)


STUCK = """
import os, signal, sys, threading
with open(sys.argv[0] + ".pipe", "w") as pipe:
    pipe.write(str(os.getpid()))
threading.Event().wait()
"""
"""A process that says who it is, and then nothing any more."""


def test_a_cancelled_step_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, pipe = tmp_path / "stuck.py", tmp_path / "stuck.py.pipe"
    script.write_text(STUCK)
    os.mkfifo(pipe)
    monkeypatch.setattr(pdf_reader, "_PROCESS", script)

    async def main() -> int:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pages.call, Document("a.pdf", pdf("a")))
                number = int(await trio.to_thread.run_sync(pipe.read_text, abandon_on_cancel=True))
                nursery.cancel_scope.cancel()
        return number

    number = trio.run(main)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_a_tenant_waits_for_its_own_documents_and_not_for_those_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the places that its own do not fill; and not for ever."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    script, pipe = tmp_path / "stuck.py", tmp_path / "stuck.py.pipe"
    script.write_text(STUCK)
    os.mkfifo(pipe)

    async def read_of(caller: Caller, **bounds: Any) -> list[Passage]:
        account = NoAccount()
        account.caller = caller
        PRESENT.set(account)
        return await pages.call(Document("a.pdf", pdf("Bees.")), **bounds)

    async def main() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                with monkeypatch.context() as stuck:
                    stuck.setattr(pdf_reader, "_PROCESS", script)
                    nursery.start_soon(read_of, Caller("acme"))
                    await trio.to_thread.run_sync(pipe.read_text, abandon_on_cancel=True)
                await refused_in(Caller("acme"))
                await refused_in(Caller("acme", "ann", end_user=True))
                await read_in(Caller("other"))
                nursery.cancel_scope.cancel()

    async def refused_in(caller: Caller) -> None:
        with pytest.raises(DocumentError, match=r"was not read: others were read first for 0\.1 s"):
            await read_of(caller, wait_s=0.1)

    async def read_in(caller: Caller) -> None:
        assert [each.text for each in await read_of(caller)] == ["Bees."]

    trio.run(main)


def test_without_pypdf_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_reader, "find_spec", lambda _: None)
    with pytest.raises(BindingError, match=r"pip install 'orchestra\[documents\]'"):
        paged(Document("a.pdf", pdf("a")))
    assert paged(Document("a.md", b"a"))


def test_the_process_is_told_where_locales_lie_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    async def ran(command: list[str], **options: Any) -> Any:
        seen.update(options)
        raise DocumentError("seen")

    monkeypatch.setattr(trio, "run_process", ran)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-123")
    monkeypatch.setenv("LOCPATH", "/locales")
    refused_ = pytest.raises(DocumentError, match="seen")
    with refused_:
        paged(Document("a.pdf", pdf("a")))
    assert "sk-123" not in seen["env"].values()
    assert seen["env"]["LOCPATH"] == "/locales"


@given(st.lists(st.text("ab .\n# ", min_size=1, max_size=300), max_size=4))
def test_what_is_cut_is_what_split_makes_with_the_page(texts: list[str]) -> None:
    whole = [Passage(f"a#{n}", text, "a.md", metadata={"page": n}) for n, text in enumerate(texts)]
    found = cut.call(whole, size_chars=100, overlap_chars=0)
    assert [each.text for each in found] == [
        each.text
        for text in texts
        for each in split(text, source="a.md", size_chars=100, overlap_chars=0)
    ]
    assert len({each.id for each in found}) == len(found)
    assert all({"page", "heading", "position"} == set(each.metadata) for each in found)


class Lengths:
    """An embedder to which texts are alike whose lengths are; it notes how many it is asked."""

    dimensions = 2

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        self.asked.append(len(texts))
        return [
            Vector.of([1.0, -abs(len(text) - 5) if purpose == "document" else 1.0])
            for text in texts
        ]


@pipeline
def found(passages: list[Passage], question: str) -> list[Passage]:
    return nearest(passages, question, top=2)


def test_what_is_nearest_comes_first_with_its_score() -> None:
    """Whatever how many there are; an embedder is asked for as many as it takes at once."""
    lengths = Lengths()
    passages = [Passage(str(n), "x" * n) for n in range(200)]
    world = World(embedders={"default": lengths})
    simulated = simulate(found, world, passages=passages, question="q")
    assert simulated.error is None
    near: Any = simulated.value
    assert [(each.id, each.score) for each in near] == [("5", 1.0), ("4", 0.0)]
    assert lengths.asked == [1, 64, 64, 64, 8]


def test_of_nothing_nothing_is_nearest() -> None:
    world = World(embedders={"default": Lengths()})
    assert simulate(found, world, passages=[], question="q").value == []
