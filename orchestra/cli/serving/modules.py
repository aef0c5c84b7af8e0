"""A user's own modules, imported anew beside the old ones.

Old runs go on in the old modules, which live as long as something knows them. What decides is the
name in `sys.modules`: the user's own names are taken out of it, so that importing makes them anew,
with all that they import of each other. What is installed stays as it is.

Rules of the file: it is all of the user's own modules or none, since a new one that finds an old
one beside it would mix classes of one name. Where a module is imported in a function, a run that
is older gets the new one.
"""

from __future__ import annotations

import importlib
import linecache
import os
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import cache_from_source
from pathlib import Path
from types import ModuleType

_NEVER = {"__main__", "orchestra"}
_INSTALLED = tuple(
    os.path.join(sysconfig.get_path(name), "")  # noqa: PTH118 - compared as text, a thousand times
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_INSTALLED_PARTS = ("/site-packages/", "/dist-packages/")


@contextmanager
def imported_anew(tops: Collection[str] = ()) -> Iterator[None]:
    """While this is entered, what is imported of the user's own modules is made anew.

    `tops` are as of `own_modules`. Left with an exception, the old modules and the search path are
    back as they were.
    """
    old, path = own_modules(tops), list(sys.path)
    for name, module in old.items():
        del sys.modules[name]
        _forget_bytecode(module)
    importlib.invalidate_caches()
    linecache.checkcache()  # errors quote lines as they are now
    try:
        yield
    except BaseException:
        for name in own_modules(tops):
            del sys.modules[name]
        sys.modules.update(old)
        sys.path[:] = path
        raise


def own_modules(tops: Collection[str] = ()) -> Mapping[str, ModuleType]:
    """The user's own modules that are imported, by name: only those that are Python files.

    They are those in the working directory, those below one of the top-level names `tops`, and
    those that lie beside such a one where it is a single file outside of what is installed.
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
    """The folders that the user's own modules lie in, and of packages their own."""
    found: set[Path] = set()
    for module in own_modules(tops).values():
        if file := getattr(module, "__file__", None):
            found.add(Path(file).parent)
        here = [each for each in getattr(module, "__path__", ()) if _is_own(each, _roots(tops))]
        found.update(map(Path, here))  # a namespace may have others elsewhere
    return found


def _roots(tops: Collection[str]) -> set[str]:
    return {_folder(str(Path.cwd())), *_folders_of_files(tops)}


def _folders_of_files(tops: Collection[str]) -> Iterator[str]:
    for top in tops:
        module = sys.modules.get(top)
        if module is not None and not hasattr(module, "__path__") and module.__file__:
            yield _folder(str(Path(module.__file__).parent))


def _places(module: ModuleType) -> list[str]:
    """Where it is: its file, or of a namespace its folders; nowhere if it is no Python file."""
    if file := getattr(module, "__file__", None):
        return [file] if file.endswith(".py") else []
    return [_folder(each) for each in getattr(module, "__path__", ())]


def _is_own(place: str, folders: Collection[str]) -> bool:
    installed = place.startswith(_INSTALLED) or any(part in place for part in _INSTALLED_PARTS)
    return not installed and place.startswith(tuple(folders))


def _folder(path: str) -> str:
    return path if path.endswith(os.sep) else path + os.sep


def _forget_bytecode(module: ModuleType) -> None:
    """Python takes what is compiled for a file of the same size and second for that file's."""
    if file := getattr(module, "__file__", None):
        with suppress(OSError, NotImplementedError):
            Path(cache_from_source(file)).unlink(missing_ok=True)
