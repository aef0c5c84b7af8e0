"""What the names in pipelines stand for, where nobody has said otherwise.

Works without a key and without a network: embeddings from wordllama's wheel, a model
that quotes, and the collections of one SQLite file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from orchestra.errors import BindingError
from orchestra.protocols import Embedder, Model, VectorStore
from orchestra.providers.extractive import ExtractiveModel
from orchestra.providers.wordllama import WordLlamaEmbedder
from orchestra.stores.sqlite import SqliteStores

T = TypeVar("T")

STORE_FILE = "store.sqlite"
MODELS = ("default", "fast", "smart")
"""All three are the extractive model, so that a race between two runs out of the box."""


def default_bindings(data: Path) -> LocalBindings:
    """The bindings of a deployment that keeps its data in this folder.

    Nothing is opened, loaded or made before it is used; the folder need not exist.
    """
    return LocalBindings(data)


class LocalBindings:
    """`Bindings` to what runs in this process.

    The models `default`, `fast` and `smart`, the embedder `default`, and as stores the
    collections of `store.sqlite` in the data folder; `stores` is that file, to make new
    ones. Close it when its last run has ended, or use it in a `with` statement;
    forgetting it does the same.
    """

    def __init__(self, data: Path = Path(".orchestra")) -> None:
        embedder = WordLlamaEmbedder()
        model = ExtractiveModel(embedder)
        self.stores = SqliteStores(data / STORE_FILE)
        self._embedders: dict[str, Embedder] = {"default": embedder}
        self._models: dict[str, Model] = dict.fromkeys(MODELS, model)
        self._collections: dict[str, VectorStore] = {}

    def names(self, seam: str) -> Sequence[str]:
        """The names bound for `model`, `embedder` or `store`; reads the file for stores.

        Raises:
            BindingError: there is no such seam.
            StoreError: the file of the stores is not one.
        """
        if seam == "store":
            return self.stores.names()
        bound: Mapping[str, Mapping[str, object]]
        bound = {"model": self._models, "embedder": self._embedders}
        return list(_bound("seam", seam, bound))

    def model(self, name: str) -> Model:
        """The model of this name.

        Raises:
            BindingError: there is none.
        """
        return _bound("model", name, self._models)

    def embedder(self, name: str) -> Embedder:
        """The embedder of this name.

        Raises:
            BindingError: there is none.
        """
        return _bound("embedder", name, self._embedders)

    def store(self, name: str) -> VectorStore:
        """The store of this name; once found, it is not looked for again.

        Raises:
            BindingError: there is none.
            StoreError: the file of the stores is not one.
        """
        if name not in self._collections:
            found = {held: self.stores.collection(held) for held in self.stores.names()}
            self._collections.update(found)
        fix = f"; a new one is made by `orchestra ingest FOLDER --store {name}`"
        return _bound(f"store in {self.stores.path}", name, self._collections, fix)

    def close(self) -> None:
        """Close the file of the stores; nothing that uses it may be under way."""
        self.stores.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _bound(what: str, name: str, bound: Mapping[str, T], fix: str = "") -> T:
    """What is bound to the name; where nothing is, an error with the names that are."""
    if name in bound:
        return bound[name]
    near = get_close_matches(name, bound, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    there = ", ".join(map(repr, sorted(bound))) or "none"
    raise BindingError(f"there is no {what} named {name!r} (known: {there}){meant}{fix}")
