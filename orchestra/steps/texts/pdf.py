"""Reads PDFs, each in a process of its own (`pdf_process`).

The process never outlives the call: it is killed at once if the call is cancelled, and by its
bounds if the file is hostile.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import attrs
import trio

from orchestra.errors import BindingError
from orchestra.policies.account import PRESENT
from orchestra.policies.limits.shares import OwnShares, Shares

PAGES_MAX = 1000
CHARS_MAX = 4_000_000
"""About a million tokens: more than the context of most models."""
TIMEOUT_S = 20.0
WAIT_S = 300.0
"""The longest wait for a free process; after this time, the client has usually given up."""
MEMORY_LIMIT_BYTES = 512 * 1024**2
"""The address space of a process; an interpreter with pypdf uses about 60 MiB."""
_PROCESS = Path(__file__).with_name("pdf_process.py")
_ENVIRONMENT = ("PATH", "PYTHON", "VIRTUAL_ENV", "LANG", "LC_", "LOC", "COVERAGE")
"""Prefixes of the environment variables that the process inherits: none of them is a secret.

"LOC" is for LOCPATH and LOCALE_ARCHIVE: at a path like ~/Ö, Python does not start without its
locale.
"""
_KILLED_BY_TIME = (-14, -24)  # SIGALRM, SIGXCPU


class UnreadablePdfError(Exception):
    """The reason why a PDF is not read; the message continues "the document ..."."""


@attrs.frozen
class PdfBounds:
    """What one PDF may have and take."""

    pages_max: int = PAGES_MAX
    chars_max: int = CHARS_MAX
    timeout_s: float = TIMEOUT_S
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES


def _by_processors() -> Shares:
    """One place per processor, but at least two; one tenant may use half of them."""
    most = max(os.cpu_count() or 1, 2)
    return Shares(most, most // 2)


_READERS = OwnShares("readers of PDFs", _by_processors)


def check_installed(why: str) -> None:
    """Check that PDFs can be read.

    Raises:
        BindingError: pypdf is not installed; the message begins with `why` it is needed.
    """
    if find_spec("pypdf") is None:
        raise BindingError(
            f"{why}, and pypdf is not installed: run `pip install 'orchestra[documents]'`"
        )


async def pdf_texts(data: bytes, bounds: PdfBounds, wait_s: float = WAIT_S) -> list[str]:
    """The text of each page of a PDF; the caller has checked that pypdf is installed.

    As many PDFs are read at once as there are processors, but at least two; one organisation may
    use half of that. Further ones wait, at most `wait_s`; `bounds.timeout_s` begins after the wait.

    Raises:
        UnreadablePdfError: the PDF exceeds a bound, is encrypted or broken, or has waited too long.
    """
    with trio.move_on_after(wait_s) as waiting:
        async with _READERS.get().share(PRESENT.get().caller.fairness_key) as readers, readers:
            waiting.deadline = math.inf
            ended = await _read(data, bounds)
    if waiting.cancelled_caught:
        raise UnreadablePdfError(
            f"was not read: others were read first for {wait_s:g} s; try again later: see `wait_s`"
        )
    if ended.returncode in _KILLED_BY_TIME:
        raise UnreadablePdfError(f"was not read within {bounds.timeout_s:g} s: see `timeout_s`")
    try:
        result = json.loads(ended.stdout)
    except ValueError as error:
        raise UnreadablePdfError(
            f"cannot be read: its process ended with {ended.returncode}; it may need more memory "
            "than `memory_limit_bytes`"
        ) from error
    if "error" in result:
        raise UnreadablePdfError(result["error"])
    return cast("list[str]", result["pages"])


async def _read(data: bytes, bounds: PdfBounds) -> subprocess.CompletedProcess[bytes]:
    # -P: modules beside the script must not be imported in place of Python's own
    return await trio.run_process(
        [sys.executable, "-P", "-W", "ignore", str(_PROCESS), json.dumps(attrs.asdict(bounds))],
        stdin=data,
        capture_stdout=True,
        stderr=subprocess.DEVNULL,
        check=False,
        deliver_cancel=_kill,
        env={key: value for key, value in os.environ.items() if key.startswith(_ENVIRONMENT)},
    )


async def _kill(process: trio.Process) -> None:
    process.kill()
