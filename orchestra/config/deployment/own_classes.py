"""Instances of a project's own classes: stores, models and embedders.

Rules of the file: a module of the project is imported only when one of its classes is needed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs

from orchestra.errors import BindingError
from orchestra.messages import describe
from orchestra.nearest import did_you_mean
from orchestra.values import Capabilities

if TYPE_CHECKING:
    from orchestra.providers.known.settings import OwnClass


@attrs.frozen
class _Kind:
    """The members that a class must have, and how to write it."""

    needed: Sequence[str]
    fix: str


_KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        "store": _Kind(
            ("search",),
            "write a class with the methods of orchestra.protocols.VectorStore: search, upsert, "
            "delete, count, digests",
        ),
        "model": _Kind(
            ("stream", "complete", "embed", "rerank", "capabilities"),
            "inherit from orchestra.protocols.Model, which has all but `stream`",
        ),
        "embedder": _Kind(
            ("embed", "dimensions"),
            "write a class with the members of orchestra.protocols.Embedder: embed, dimensions; a "
            'Model belongs in [models.NAME], and is named here with model = "NAME"',
        ),
    }
)


def make_own(own: OwnClass, name: str, origin: str) -> Any:
    """An instance of such a class, from a module of the project or an installed one.

    Raises:
        BindingError: there is no such class, it cannot be instantiated, or does not fit its seam.
    """

    def unfit(problem: str) -> BindingError:
        return BindingError(f"{origin}: {own.seam} {name!r}: {own.target} {problem}")

    try:
        made = _found(own.target, unfit)(**own.options)
        _refuse_unfit(made, own.seam, unfit)
    except BindingError:
        raise
    except (Exception, SystemExit) as error:
        raise unfit(f"cannot be made: {describe(error)}") from error
    return made


def _refuse_unfit(made: Any, seam: str, unfit: Callable[[str], BindingError]) -> None:
    kind = _KINDS[seam]
    for member in kind.needed:
        if not any(hasattr(each, member) for each in (type(made), made)):
            raise unfit(f"gave a {type(made).__name__}, which has no `{member}`; {kind.fix}")
    if seam == "model" and not isinstance(made.capabilities, Capabilities):
        raise unfit(f"has the capabilities {made.capabilities!r:.100}, not a `Capabilities`")


def _found(target: str, unfit: Callable[[str], BindingError]) -> Any:
    """The class at `module:Class`; the working directory is put on the import path."""
    module, _, path = target.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        problem = f"does not exist: no module {module!r} is in {here}, nor installed"
        raise unfit(problem) from error
    for part in path.split("."):
        if not hasattr(found, part):
            meant = did_you_mean(part, dir(found), before="; ")
            raise unfit(f"does not exist: there is no {part!r}{meant}")
        found = getattr(found, part)
    return found
