"""The files of a folder as passages: read, identified by a digest, and cut.

A file that has not changed is read, but not cut: a PDF takes seconds.
"""

from __future__ import annotations

from functools import partial

import attrs
import trio

from orchestra.errors import BindingError, InputError
from orchestra.protocols import DIGEST
from orchestra.steps.texts.digests import Recipe
from orchestra.steps.texts.folder import Skipped
from orchestra.steps.texts.pdf import PdfBounds, UnreadablePdfError, check_installed, pdf_texts
from orchestra.steps.texts.text import split
from orchestra.values import Metadata, Passage, Scalar


@attrs.frozen
class ReadFile:
    """A file that has been read: its text, or the bytes of a PDF."""

    source: str
    digest: str
    content: str | bytes


@attrs.frozen
class CutFile:
    """The passages of a file, with its digest."""

    source: str
    digest: str
    passages: list[Passage]


async def cut_file(file: ReadFile, recipe: Recipe) -> CutFile | Skipped:
    """The passages of a file, with its digest in their metadata, or why it is left out.

    Those of a PDF have the number of their page as `page`, and as their heading if they have none.
    """
    texts: list[str] | str = ""
    if isinstance(file.content, str):
        texts = file.content
    else:
        try:
            check_installed("it is a PDF")
            texts = await pdf_texts(file.content, PdfBounds())
        except (BindingError, UnreadablePdfError) as error:
            return Skipped(file.source, str(error).partition(": see `")[0])
    passages = await trio.to_thread.run_sync(partial(_passages, file, texts, recipe))
    if not passages:
        return Skipped(file.source, "has no text; is it a scan?")
    return CutFile(file.source, file.digest, passages)


def _passages(file: ReadFile, texts: list[str] | str, recipe: Recipe) -> list[Passage]:
    sizes = {"size_chars": recipe.size_chars, "overlap_chars": recipe.overlap_chars}
    if isinstance(texts, str):
        cut = split(texts, source=file.source, **sizes)
    else:
        cut = [
            _of_page(number, passage)
            for number, text in enumerate(texts, 1)
            for passage in split(text, source=file.source, **sizes)
        ]
    own = {**recipe.metadata, DIGEST: file.digest}
    return [
        attrs.evolve(each, metadata={**each.metadata, "position": position, **own})
        for position, each in enumerate(cut)
    ]


def check_metadata(metadata: Metadata) -> None:
    """Refuse names that passages of files have already. Raises InputError."""
    for name in ("source", "heading", "position", "page", DIGEST):
        if name in metadata:
            raise InputError(
                f"metadata {name!r}: passages of files have their own; write another name",
                field="metadata",
            )


def _of_page(number: int, passage: Passage) -> Passage:
    heading = passage.metadata["heading"] or f"page {number}"
    metadata: dict[str, Scalar] = {**passage.metadata, "heading": heading, "page": number}
    return attrs.evolve(passage, id=f"{passage.id}-page-{number}", metadata=metadata)
