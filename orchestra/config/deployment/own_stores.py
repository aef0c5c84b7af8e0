"""The stores of a deployment: those of its own classes, and the collections of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from orchestra.config.deployment.names import bound
from orchestra.config.deployment.own_classes import close_own, make_own
from orchestra.protocols import VectorStore
from orchestra.stores.sqlite import SqliteStores

if TYPE_CHECKING:
    from orchestra.providers.known.settings import OwnClass


@attrs.frozen(kw_only=True)
class OwnStore:
    """What the file says of such a store, and where."""

    name: str
    own: OwnClass
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
        with ExitStack() as closing:
            closing.callback(super().close)
            for name in self._own().keys() & self._made.keys():
                closing.callback(close_own, self._made.pop(name))


def make_own_store(said: OwnStore) -> VectorStore:
    """The store, of the class in the project's own modules, or in an installed one.

    Raises:
        BindingError: there is no such class, it cannot be made so, or it cannot be searched.
    """
    store: VectorStore = make_own(said.own, said.name, said.origin)
    return store
