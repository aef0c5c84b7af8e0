"""Reads uploaded documents (text, Markdown and PDF) as text or as passages.

sources = nearest(cut(pages(document)), question, top=5)
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from orchestra.documents import Document
from orchestra.graph.steps import step
from orchestra.protocols import Context, injected
from orchestra.steps.texts.pdf import (
    CHARS_MAX,
    MEMORY_LIMIT_BYTES,
    PAGES_MAX,
    TIMEOUT_S,
    WAIT_S,
    PdfBounds,
    UnreadablePdfError,
    check_installed,
    pdf_texts,
)
from orchestra.steps.texts.text import OVERLAP_CHARS, SIZE_CHARS, split
from orchestra.values import Passage


@step
async def pages(
    document: Document,
    *,
    pages_max: int = PAGES_MAX,
    chars_max: int = CHARS_MAX,
    timeout_s: float = TIMEOUT_S,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    wait_s: float = WAIT_S,
    context: Context = injected,
) -> list[Passage]:
    """The pages of a PDF as passages, with the number as `page` in the metadata; text as one page.

    Empty pages are left out, so a scan without text gives no passages. As many PDFs are read at
    once as there are processors, but at least two; one organisation may use half of that. Further
    ones wait, at most `wait_s`; `timeout_s` begins after the wait.

    Raises:
        DocumentError: the document exceeds a bound, is encrypted, is broken or is not text; or it
            has waited too long.
        BindingError: the document is a PDF, and pypdf is not installed.
    """
    del context  # only a parameter so that the engine sets the account
    if document.is_pdf:
        check_installed(f"{document.name[:200]!r} is a PDF")
        bounds = PdfBounds(pages_max, chars_max, timeout_s, memory_limit_bytes)
        try:
            texts = await pdf_texts(document.data, bounds, wait_s)
        except UnreadablePdfError as error:
            raise document.error(str(error)) from error
    else:
        texts = [document.text]
        if len(texts[0]) > chars_max:
            raise document.error(f"has more than {chars_max} characters: see `chars_max`")
    return [
        Passage(f"{document.name}#{number}", text, document.name, metadata={"page": number})
        for number, text in enumerate(texts, 1)
        if text.strip()
    ]


@step
async def text_of(
    document: Document,
    *,
    pages_max: int = PAGES_MAX,
    chars_max: int = CHARS_MAX,
    timeout_s: float = TIMEOUT_S,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    wait_s: float = WAIT_S,
    context: Context = injected,
) -> str:
    """The text of a document, with empty lines between its pages; otherwise as `pages`.

    Raises:
        DocumentError: as for `pages`.
        BindingError: as for `pages`.
    """
    del context
    found = await pages.call(
        document,
        pages_max=pages_max,
        chars_max=chars_max,
        timeout_s=timeout_s,
        memory_limit_bytes=memory_limit_bytes,
        wait_s=wait_s,
    )
    return "\n\n".join(page.text for page in found)


@step(thread=True)
def cut(
    passages: list[Passage],
    *,
    size_chars: int = SIZE_CHARS,
    overlap_chars: int = OVERLAP_CHARS,
) -> list[Passage]:
    """The passages cut into smaller ones, along the structure of their texts.

    Each keeps the metadata, with `heading` and `position` added as in
    `orchestra.steps.texts.text.split`.

    Raises:
        ValueError: `size_chars` or `overlap_chars` is out of range, as for `split`.
    """
    return list(_cut(passages, size_chars, overlap_chars))


def _cut(passages: Iterable[Passage], size_chars: int, overlap_chars: int) -> Iterable[Passage]:
    for whole in passages:
        pieces = split(
            whole.text, source=whole.source, size_chars=size_chars, overlap_chars=overlap_chars
        )
        for piece in pieces:
            metadata = {**whole.metadata, **piece.metadata}
            yield attrs.evolve(piece, id=f"{whole.id}/{piece.id}", metadata=metadata)
