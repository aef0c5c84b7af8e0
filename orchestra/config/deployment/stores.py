"""The stores of a deployment: its own classes, and the collections of a file or a database."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import attrs

from orchestra.config.deployment.names import bound
from orchestra.errors import BindingError
from orchestra.protocols import VectorStore
from orchestra.stores.summary import StoreSummary

if TYPE_CHECKING:
    from orchestra.closing import Opened
    from orchestra.config.deployment.deployment import Deployment
    from orchestra.providers.known.settings import OwnClass
    from orchestra.stores.postgres.collection import PostgresCollection
    from orchestra.stores.postgres.stores import PostgresStores
    from orchestra.stores.sqlite import SqliteCollection, SqliteStores


@attrs.frozen(kw_only=True)
class OwnStore:
    """The settings of a store of an own class, and their place in the file."""

    name: str
    own: OwnClass
    origin: str = ""


class Stores:
    """The stores of a deployment: those of its own classes, made on first use, and all others.

    The others are collections of the `database`, if it has one, else of the file at `path`.
    `opened` closes them all.
    """

    def __init__(
        self,
        path: Path,
        deployment: Deployment | None,
        environ: Mapping[str, str],
        opened: Opened,
    ) -> None:
        self.path = path
        self._own = {} if deployment is None else deployment.stores
        self._database = None if deployment is None else deployment.database
        self._environ = environ
        self._opened = opened
        self._made: dict[str, VectorStore] = {}

    def names(self) -> list[str]:
        """The names of all stores; blocks, with a database until there is a connection.

        Raises:
            BindingError: the database cannot be used: see `open_postgres`.
            StoreError: the file is not one of stores, or the database does not answer.
        """
        return [*self._own, *(name for name in self._others.names() if name not in self._own)]

    def is_own(self, name: str) -> bool:
        """Whether the store of this name is of an own class."""
        return name in self._own

    def store(self, name: str) -> VectorStore:
        """The store of this name; once found, it is not looked up again.

        A store in a database is not looked up at all: a search reports if it does not exist, and
        names that steps make up are not kept.

        Raises:
            BindingError: there is no such store, or its class cannot be instantiated.
            StoreError: the file is not one of stores.
        """
        if name not in self._made:
            if self._database is not None:
                return self.to_fill(name)
            fix = (
                f"; a new one is made by `orchestra ingest FOLDER --store {name}`, or in Python by "
                f"the first `upsert` of `bindings.stores.collection({name!r})`"
            )
            there = dict.fromkeys(self.names(), name)
            bound(f"store in {self.path}", name, there, fix)
            self._made[name] = self.to_fill(name)
        return self._made[name]

    def collection(self, name: str) -> SqliteCollection | PostgresCollection:
        """The collection of this name in the file or database, not a store of an own class."""
        return self._others.collection(name)

    async def make(self, name: str) -> None:
        """Make an empty store if there is none, and its index if it should have one.

        Raises:
            StoreError: it cannot be made.
        """
        if name in self._own:
            return
        collection = self.collection(name)
        await collection.make()
        if self._database is not None:
            await cast("PostgresCollection", collection).index()

    async def summaries(self) -> list[StoreSummary]:
        """What each store holds: those of own classes first, then the others by name.

        Raises:
            BindingError: a class cannot be instantiated, or the database cannot be used.
            StoreError: a store cannot be read.
        """
        found = []
        for name in self._own:
            store = self.to_fill(name)
            found.append(StoreSummary(name, await store.count(), len(await store.digests())))
        others = await self._others.summaries()
        return [*found, *(each for each in others if each.name not in self._own)]

    async def drop(self, name: str) -> int:
        """Remove a store of the file or database, with its passages; return their number.

        Raises:
            BindingError: there is no such store, or it is of an own class.
            StoreError: it cannot be removed.
        """
        if name in self._own:
            raise BindingError(
                f"store {name!r} is of the class {self._own[name].own.target}, which alone can "
                f"remove what it holds; its table is [stores.{name}]"
            )
        self._made.pop(name, None)
        bound(f"store in {self.place}", name, dict.fromkeys(self._others.names(), name))
        return await self.collection(name).drop()

    @property
    def place(self) -> str:
        """The file or the database in which all stores are that have no own class."""
        return self._others.place

    @cached_property
    def _others(self) -> SqliteStores | PostgresStores:
        if self._database is not None:
            from orchestra.stores.postgres.settings import open_postgres

            database = partial(open_postgres, self._database, self._environ)
            return self._opened.shared(self._database, database)
        from orchestra.stores.sqlite import SqliteStores  # lazy: a start opens no file of stores

        return self._opened.own(SqliteStores(self.path))

    def make_own(self) -> None:
        """Make all stores of own classes now, so that a server does not start without them.

        Raises:
            BindingError: a class cannot be instantiated.
        """
        for name in self._own:
            self.store(name)

    def to_fill(self, name: str) -> VectorStore:
        """The store of this name, for writing: it need not exist yet.

        Raises:
            BindingError: its class cannot be instantiated.
        """
        own = self._own.get(name)
        if own is None:
            return self.collection(name)
        if name not in self._made:
            from orchestra.config.deployment.own_classes import make_own

            self._made[name] = self._opened.own(make_own(own.own, own.name, own.origin))
        return self._made[name]
