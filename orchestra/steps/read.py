"""Reads uploaded documents (text, Markdown and PDF) as text or as passages.

    sources = nearest(cut(pages(document)), question, most=5)

A PDF is read in a process of its own (`pdf_process`), which never outlives the step: it is killed
at once if the step is cancelled, and by its bounds if the file is hostile.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import attrs
import trio

from orchestra.documents import Document
from orchestra.errors import BindingError
from orchestra.graph.steps import step
from orchestra.policies.account import PRESENT
from orchestra.policies.limits.shares import OwnShares, Shares
from orchestra.protocols import Context, injected
from orchestra.steps.texts.text import OVERLAP_CHARS, SIZE_CHARS, split
from orchestra.values import Passage

PAGES_MAX = 1000
CHARS_MAX = 4_000_000
"""About a million tokens: more than the context of most models."""
TIMEOUT_S = 20.0
WAIT_S = 300.0
"""The longest wait for a free process; after this time, the client has usually given up."""
MEMORY_LIMIT_BYTES = 512 * 1024**2
"""The address space of a process; an interpreter with pypdf uses about 60 MiB."""
_PROCESS = Path(__file__).with_name("texts") / "pdf_process.py"
_ENVIRONMENT = ("PATH", "PYTHON", "VIRTUAL_ENV", "LANG", "LC_", "LOC", "COVERAGE")
"""Prefixes of the environment variables that the process inherits: none of them is a secret.

"LOC" is for LOCPATH and LOCALE_ARCHIVE: at a path like ~/Ö, Python does not start without its
locale.
"""
_KILLED_BY_TIME = (-14, -24)  # SIGALRM, SIGXCPU


def _by_processors() -> Shares:
    """One place per processor, but at least two; one tenant may use half of them."""
    most = max(os.cpu_count() or 1, 2)
    return Shares(most, most // 2)


_READERS = OwnShares("readers of PDFs", _by_processors)


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
        bounds = {
            "pages_max": pages_max,
            "chars_max": chars_max,
            "timeout_s": timeout_s,
            "memory_limit_bytes": memory_limit_bytes,
        }
        texts = await _pdf(document, bounds, wait_s)
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


def check_installed(why: str) -> None:
    """Check that PDFs can be read.

    Raises:
        BindingError: pypdf is not installed; the message begins with `why` it is needed.
    """
    if find_spec("pypdf") is None:
        raise BindingError(
            f"{why}, and pypdf is not installed: run `pip install 'orchestra[documents]'`"
        )


async def _pdf(document: Document, bounds: dict[str, float], wait_s: float) -> list[str]:
    """The text of each page, from a process of its own."""
    check_installed(f"{document.name[:200]!r} is a PDF")
    with trio.move_on_after(wait_s) as waiting:
        async with _READERS.get().share(PRESENT.get().caller.fairness_key) as readers, readers:
            waiting.deadline = math.inf
            ended = await _read(document, bounds)
    if waiting.cancelled_caught:
        raise document.error(
            f"was not read: others were read first for {wait_s:g} s; try again later: see `wait_s`"
        )
    if ended.returncode in _KILLED_BY_TIME:
        raise document.error(f"was not read within {bounds['timeout_s']:g} s: see `timeout_s`")
    try:
        result = json.loads(ended.stdout)
    except ValueError as error:
        raise document.error(
            f"cannot be read: its process ended with {ended.returncode}; it may need more memory "
            "than `memory_limit_bytes`"
        ) from error
    if "error" in result:
        raise document.error(result["error"])
    return cast("list[str]", result["pages"])


async def _read(document: Document, bounds: dict[str, float]) -> subprocess.CompletedProcess[bytes]:
    # -P: modules beside the script must not be imported in place of Python's own
    return await trio.run_process(
        [sys.executable, "-P", "-W", "ignore", str(_PROCESS), json.dumps(bounds)],
        stdin=document.data,
        capture_stdout=True,
        stderr=subprocess.DEVNULL,
        check=False,
        deliver_cancel=_kill,
        env={key: value for key, value in os.environ.items() if key.startswith(_ENVIRONMENT)},
    )


async def _kill(process: trio.Process) -> None:
    process.kill()
