"""The stores of a deployment: those of its own classes, and the collections of a file.

Rules of the file: nothing of a project is imported before one of its stores is asked for.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import attrs

from orchestra.config.deployment.names import bound
from orchestra.errors import BindingError
from orchestra.messages import describe
from orchestra.protocols import VectorStore
from orchestra.stores.sqlite import SqliteStores

_METHODS = ("search", "upsert", "delete", "count", "digests")
"""What a store has; one that is only asked has `search` alone."""


@attrs.frozen(kw_only=True)
class OwnStore:
    """What the file says of such a store: its class as `module:Class`, called with `options`."""

    name: str
    target: str
    options: Mapping[str, Any] = attrs.Factory(dict)
    origin: str = ""


class Stores(SqliteStores):
    """The stores of a deployment: its own, each made when it is first asked for, and a file's."""

    def __init__(self, path: Path, own: Callable[[], Mapping[str, OwnStore]]) -> None:
        super().__init__(path)
        self._own = own
        self._made: dict[str, VectorStore] = {}

    def names(self) -> list[str]:
        """The names of all that there are. Raises StoreError where the file is not one of ours."""
        return [*self._own(), *(name for name in super().names() if name not in self._own())]

    def store(self, name: str) -> VectorStore:
        """The store of this name; once found, it is not looked for again.

        Raises:
            BindingError: there is none, or its class cannot be made.
            StoreError: the file of the stores is not one.
        """
        if name not in self._made:
            fix = f"; a new one is made by `orchestra ingest FOLDER --store {name}`"
            there = dict.fromkeys(self.names(), name)
            self._made[name] = self.to_fill(bound(f"store in {self.path}", name, there, fix))
        return self._made[name]

    def make_own(self) -> None:
        """Make those of its own now, as a server does that would rather not start without them.

        Raises:
            BindingError: the class of one cannot be made.
        """
        for name in self._own():
            self.store(name)

    def to_fill(self, name: str) -> VectorStore:
        """The store of this name, to be written to: where there is none, it will be in the file.

        Raises:
            BindingError: its class cannot be made.
        """
        own = self._own().get(name)
        if own is None:
            return self.collection(name)
        if name not in self._made:
            self._made[name] = make_own_store(own)
        return self._made[name]

    def close(self) -> None:
        """Close the file, and each store of the deployment's own that has a `close`."""
        super().close()
        for name in self._own().keys() & self._made.keys():
            if callable(close := getattr(self._made[name], "close", None)):
                close()


def make_own_store(said: OwnStore) -> VectorStore:
    """The store, of the class in the project's own modules, or in an installed one.

    Raises:
        BindingError: there is no such class, it cannot be made so, or it cannot be searched.
    """
    try:
        made = _found(said)(**said.options)
    except BindingError:
        raise
    except Exception as error:
        raise _unfit(said, f"cannot be made: {describe(error)}") from error
    if not callable(getattr(made, "search", None)):
        raise _unfit(
            said,
            f"gave a {type(made).__name__}, which has no `search`; write a class with the methods "
            f"of orchestra.protocols.VectorStore: {', '.join(_METHODS)}",
        )
    return cast("VectorStore", made)


def _found(said: OwnStore) -> Any:
    """What stands at `module:Class`, with the folder of the project on the path, as ever."""
    module, _, path = said.target.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        told = f"is not there: no module {module!r} is in {here}, nor installed"
        raise _unfit(said, told) from error
    for part in path.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, dir(found), n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise _unfit(said, f"is not there: it has no {part!r}{meant}")
        found = getattr(found, part)
    return found


def _unfit(said: OwnStore, told: str) -> BindingError:
    return BindingError(f"{said.origin}: store {said.name!r}: {said.target} {told}")
