"""Finds the user's frame, file and line on the stack: the nearest caller outside orchestra."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import CodeType, FrameType

_PACKAGE = str(Path(__file__).parent.parent.parent) + os.sep
_LIBRARY = str(Path(os.__file__).parent) + os.sep
_TRIO = f"{os.sep}site-packages{os.sep}trio{os.sep}"  # Trio calls functions that users pass to it
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_INSTALLED = tuple(_LIBRARY.removesuffix(os.sep) + each for each in _PACKAGES)


def user_frame(outermost: CodeType | None = None) -> FrameType:
    """The frame of the nearest caller outside orchestra, Trio and Python's own library.

    With `outermost`, not beyond the frame of that code: pipelines of orchestra's own are defined
    in whatever first runs them, such as a request.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - `inspect.stack` reads every source file
    while frame.f_back is not None and not is_users(frame.f_code.co_filename):
        if frame.f_code is outermost:
            break
        frame = frame.f_back
    return frame


def source_line(outermost: CodeType | None = None) -> tuple[str, int]:
    """File and line of `user_frame(outermost)`."""
    frame = user_frame(outermost)
    return frame.f_code.co_filename, frame.f_lineno


def called_at() -> str:
    """`file:line` of `user_frame()`."""
    return place(*source_line())


def is_users(filename: str) -> bool:
    """Whether a file is the user's: not orchestra's, Trio's or the standard library's."""
    if filename.startswith((_PACKAGE, "<frozen ")) or _TRIO in filename:
        return False
    return not filename.startswith(_LIBRARY) or filename.startswith(_INSTALLED)


def is_own(filename: str) -> bool:
    """Whether a file is the user's own: `is_users`, and not of an installed package."""
    return is_users(filename) and not any(each in filename for each in _PACKAGES)


def place(filename: str, line: int) -> str:
    """`file:line`; the file is relative to the working directory if it lies in it."""
    here = os.getcwd() + os.sep  # noqa: PTH109 - compared as a plain string
    return f"{filename.removeprefix(here)}:{line}"
