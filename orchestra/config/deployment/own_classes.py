"""What is made of classes of a project's own: its stores, models and embedders.

Rules of the file: nothing of a project is imported before something of it is asked for.
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
    """What a class has to have, and how to come by it."""

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
            ("stream", "complete", "embed", "capabilities"),
            "inherit from orchestra.protocols.Model, which has all but `stream`",
        ),
        "embedder": _Kind(
            ("embed", "dimensions"),
            "write a class with what orchestra.protocols.Embedder has: embed, dimensions; what is "
            'a Model stands in [models.NAME], and is named here by model = "NAME"',
        ),
    }
)


def make_own(said: OwnClass, name: str, origin: str) -> Any:
    """What such a class makes, in the project's own modules or in an installed one.

    Raises:
        BindingError: there is no such class, it cannot be made so, or is none for this seam.
    """

    def unfit(told: str) -> BindingError:
        return BindingError(f"{origin}: {said.seam} {name!r}: {said.target} {told}")

    try:
        made = _found(said.target, unfit)(**said.options)
        _refuse_unfit(made, said.seam, unfit)
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
        raise unfit(f"has the capabilities {made.capabilities!r:.100}, which are no `Capabilities`")


def _found(target: str, unfit: Callable[[str], BindingError]) -> Any:
    """What stands at `module:Class`, with the folder of the project on the path, as ever."""
    module, _, path = target.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        told = f"is not there: no module {module!r} is in {here}, nor installed"
        raise unfit(told) from error
    for part in path.split("."):
        if not hasattr(found, part):
            meant = did_you_mean(part, dir(found), before="; ")
            raise unfit(f"is not there: it has no {part!r}{meant}")
        found = getattr(found, part)
    return found
