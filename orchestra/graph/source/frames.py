"""Where the user stands: the frame, file and line of whoever called us. Pure, but for the stack."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType

_HOUSE = str(Path(__file__).parent.parent.parent) + os.sep
_KIT = str(Path(_HOUSE) / "testing") + os.sep  # whose pipelines are users', too
_LIBRARY = str(Path(os.__file__).parent) + os.sep
_TRIO = f"{os.sep}site-packages{os.sep}trio{os.sep}"  # which calls what it is given to run
_INSTALLED = (f"{_LIBRARY}site-packages{os.sep}", f"{_LIBRARY}dist-packages{os.sep}")


def user_frame() -> FrameType:
    """The nearest caller outside orchestra and Python's own library: what the user wrote."""
    frame = sys._getframe(1)  # noqa: SLF001 - `inspect.stack` reads every source file
    while frame.f_back is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def source_line() -> tuple[str, int]:
    """File and line of the nearest caller outside orchestra: where the user wrote it."""
    frame = user_frame()
    return frame.f_code.co_filename, frame.f_lineno


def called_at() -> str:
    """The same as `file:line`."""
    return place(*source_line())


def called_from_outside_at() -> str:
    """As `called_at`, of the nearest caller that is not the testing kit either."""
    frame = user_frame()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HOUSE):
        frame = frame.f_back
    return place(frame.f_code.co_filename, frame.f_lineno)


def is_users(filename: str) -> bool:
    """Whether a file is neither orchestra's nor Python's own, nor Trio's."""
    if filename.startswith(_HOUSE):
        return filename.startswith(_KIT)
    if filename.startswith("<frozen ") or _TRIO in filename:
        return False
    return not filename.startswith(_LIBRARY) or filename.startswith(_INSTALLED)


def place(filename: str, line: int) -> str:
    """`file:line`, relative to the working directory where it lies below it."""
    here = os.getcwd() + os.sep  # noqa: PTH109 - a plain string is what is compared
    return f"{filename.removeprefix(here)}:{line}"
