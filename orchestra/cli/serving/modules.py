"""Imports a user's own modules again, beside the old ones.

Runs in flight continue with the old modules, which live as long as they are referenced. The user's
own modules are removed from `sys.modules`, so that an import makes new ones, including their
imports of each other. Installed modules stay.

Rules of the file: all of the user's own modules are imported again or none, since a new module that
finds an old one would mix classes of the same name. If a function imports a module, even an older
run gets the new one.
"""

from __future__ import annotations

import importlib
import linecache
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import cache_from_source
from pathlib import Path
from types import ModuleType

from orchestra.graph.source.frames import is_own

_NEVER = {"__main__", "orchestra"}


@contextmanager
def reimported(tops: Collection[str] = ()) -> Iterator[None]:
    """A context in which the user's own modules are imported again.

    `tops` are as in `own_modules`. After an exception, the old modules and the search path are
    restored.
    """
    old, path = own_modules(tops), list(sys.path)
    for name, module in old.items():
        del sys.modules[name]
        _forget_bytecode(module)
    importlib.invalidate_caches()
    linecache.checkcache()  # so that errors quote the current lines
    try:
        yield
    except BaseException:
        for name in own_modules(tops):
            del sys.modules[name]
        sys.modules.update(old)
        sys.path[:] = path
        raise


def own_modules(tops: Collection[str] = ()) -> Mapping[str, ModuleType]:
    """The imported modules of the user by name: only Python files.

    They are those in the working directory, those below one of the top-level names `tops`, and
    those beside such a one if it is a single file that is not installed.
    """
    folders = _roots(tops)
    return {
        name: module
        for name, module in list(sys.modules.items())
        if (top := name.partition(".")[0]) not in _NEVER
        and (places := _places(module))
        and (top in tops or any(_is_own(place, folders) for place in places))
    }


def own_folders(tops: Collection[str] = ()) -> set[Path]:
    """The folders of the user's own modules and packages."""
    found: set[Path] = set()
    for module in own_modules(tops).values():
        if file := getattr(module, "__file__", None):
            found.add(Path(file).parent)
        here = [each for each in getattr(module, "__path__", ()) if _is_own(each, _roots(tops))]
        found.update(map(Path, here))  # a namespace may have others elsewhere
    return found


def _roots(tops: Collection[str]) -> set[str]:
    """The working directory, and the folders of `tops` that are single files."""
    found = {_folder(str(Path.cwd()))}
    for top in tops:
        module = sys.modules.get(top)
        if module is not None and not hasattr(module, "__path__") and module.__file__:
            found.add(_folder(str(Path(module.__file__).parent)))
    return found


def _places(module: ModuleType) -> list[str]:
    """The file of a module, or the folders of a namespace; none if it is not a Python file."""
    if file := getattr(module, "__file__", None):
        return [file] if file.endswith(".py") else []
    return [_folder(each) for each in getattr(module, "__path__", ())]


def _is_own(place: str, folders: Collection[str]) -> bool:
    return is_own(place) and place.startswith(tuple(folders))


def _folder(path: str) -> str:
    return path if path.endswith(os.sep) else path + os.sep


def _forget_bytecode(module: ModuleType) -> None:
    """Remove a module's bytecode, which Python uses for any file of the same size and second."""
    if file := getattr(module, "__file__", None):
        with suppress(OSError, NotImplementedError):
            Path(cache_from_source(file)).unlink(missing_ok=True)
