"""What the names in pipelines stand for in this deployment.

Works without a file, a key and a network: embeddings from wordllama's wheel, a model that
quotes, and the collections of one SQLite file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from orchestra.config.deployment import EMBEDDED, Deployment
from orchestra.config.environment import from_environment
from orchestra.config.finding import find
from orchestra.errors import BindingError
from orchestra.policies.routing import Route
from orchestra.protocols import Embedder, Model, VectorStore
from orchestra.providers.catalog import PROVIDERS
from orchestra.providers.settings import EmbedderSettings, ModelSettings, RouteSettings
from orchestra.providers.wordllama import WordLlamaEmbedder
from orchestra.stores.sqlite import SqliteStores

if TYPE_CHECKING:
    from orchestra.policies.guard import GuardState
    from orchestra.providers.network import HttpTransport

T = TypeVar("T")

DATA = Path(".orchestra")
"""Where stores are kept where nobody has said otherwise."""
STORE_FILE = "store.sqlite"


def deployment(config: Path | None = None, environ: Mapping[str, str] = os.environ) -> Deployment:
    """What is configured: by the file, else by keys in the environment, else the embedded.

    The file is `config`, else that of `ORCHESTRA_CONFIG`, else `./orchestra.toml`.

    Raises:
        ConfigError: something in the file is wrong; all of it is told.
    """
    file = find(config, environ)
    found = from_environment(environ)
    if file is None:
        return found
    from orchestra.config.reading import read_file  # a dozen modules, for those who have a file

    return read_file(file, found)


def default_bindings(
    data: Path | None = None,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> LocalBindings:
    """The bindings of what is configured, as `deployment` finds it.

    Stores are kept in the folder `data`, else in the one that the file says, else in
    `.orchestra`. Nothing is opened, loaded or made before it is used; the folder need not
    exist, and a missing key is an error when its model is first asked for.

    Raises:
        ConfigError: something in the file is wrong; all of it is told.
    """
    found = deployment(config, environ)
    return LocalBindings(data or found.data or DATA, found, environ)


class LocalBindings:
    """`Bindings` to the models and embedders of a deployment, and to stores on this machine.

    Stores are the collections of `store.sqlite` in the data folder; `stores` is that file, to
    make new ones. Close it when its last run has ended, or use it in a `with` statement;
    forgetting it does the same.
    """

    def __init__(
        self,
        data: Path = DATA,
        deployment: Deployment = EMBEDDED,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.stores = SqliteStores(data / STORE_FILE)
        self.deployment = deployment
        self._environ = environ
        self._local = WordLlamaEmbedder()
        self._embedders: dict[str, Embedder] = {}
        self._models: dict[str, Model] = {}
        self._routes: dict[str, Model] = {}
        self._collections: dict[str, VectorStore] = {}
        self._transport: HttpTransport | None = None

    def names(self, seam: str) -> Sequence[str]:
        """The names bound for `model`, `embedder` or `store`; reads the file for stores.

        A route is bound as a model.

        Raises:
            BindingError: there is no such seam.
            StoreError: the file of the stores is not one.
        """
        seams: Mapping[str, Callable[[], Sequence[str]]] = {
            "model": lambda: [*self.deployment.models, *self.deployment.routes],
            "embedder": lambda: list(self.deployment.embedders),
            "store": self.stores.names,
        }
        return _bound("seam", seam, seams)()

    def model(self, name: str) -> Model:
        """The model or route of this name; made when it is first asked for, and then kept.

        Raises:
            BindingError: there is none, or a key is missing, of a route's models too.
        """
        models, routes = self.deployment.models, self.deployment.routes
        if name in routes:
            return self._routes.get(name) or self._route(routes[name])
        if name not in models:
            _bound("model", name, {**models, **routes})  # which tells what there is
        return self._model(models[name])

    def embedder(self, name: str) -> Embedder:
        """The embedder of this name; made when it is first asked for, and then kept.

        Raises:
            BindingError: there is none, or its key is missing.
        """
        if name not in self._embedders:
            settings = _bound("embedder", name, self.deployment.embedders)
            self._embedders[name] = self._embedder(settings)
        return self._embedders[name]

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

    def states(self) -> Mapping[str, GuardState]:
        """The breaker and the load of each remote model that has been asked for, by its name.

        They are this object's own: all runs that it serves share them, other processes do not.
        """
        from orchestra.policies.guard import GuardedModel

        return {
            made.name: made.state()
            for made in self._models.values()
            if isinstance(made, GuardedModel)
        }

    def close(self) -> None:
        """Close the file of the stores, and connections to providers that are kept.

        Nothing that uses them may be under way.
        """
        if self._transport is not None:
            self._transport.close()
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

    def _model(self, settings: ModelSettings) -> Model:
        """One model for all of its names: they share what is kept of it."""
        key = f"{settings.origin}: {settings.name}"
        if key not in self._models:
            self._models[key] = self._made(settings)
        return self._models[key]

    def _route(self, settings: RouteSettings) -> Model:
        """One model for all the names of a route: they share what is known of latencies."""
        from orchestra.providers.addresses import candidate
        from orchestra.providers.routing import RoutedModel

        if settings.name not in self._routes:
            made = {name: self._model(each) for name, each in settings.models.items()}
            candidates = tuple(
                candidate(name, each, settings.weights.get(name, 1.0))
                for name, each in settings.models.items()
            )
            route = Route(
                name=settings.name,
                candidates=candidates,
                by=settings.by,
                falls_back_on=settings.falls_back_on,
            )
            self._routes[settings.name] = RoutedModel(route, made)
        return self._routes[settings.name]

    def _made(self, settings: ModelSettings) -> Model:
        if not PROVIDERS[settings.provider].remote:
            from orchestra.providers.extractive import ExtractiveModel

            return ExtractiveModel(self._local)
        from orchestra.policies.guard import GuardedModel
        from orchestra.providers.endpoints import endpoint
        from orchestra.providers.remote import RemoteModel

        made = endpoint(settings, self._environ)
        return GuardedModel(
            RemoteModel(made, self._opened()),
            name=settings.name,
            breaker=settings.breaker,
            limits=settings.limits,
            texts_max=made.dialect.texts_max,
        )

    def _embedder(self, settings: EmbedderSettings) -> Embedder:
        if not PROVIDERS[settings.model.provider].remote:
            return self._local
        from orchestra.providers.embedding import RemoteEmbedder
        from orchestra.providers.facts import known

        facts, wanted = known(settings.model.model), settings.dimensions
        return RemoteEmbedder(
            self._model(settings.model),
            settings.name,
            wanted or facts.dimensions,
            shortens=facts.shortens and wanted not in (None, facts.dimensions),
        )

    def _opened(self) -> HttpTransport:
        """The transport that all models share, made for the first."""
        if self._transport is None:
            from orchestra.providers.network import HttpTransport

            self._transport = HttpTransport()
        return self._transport


def _bound(what: str, name: str, bound: Mapping[str, T], fix: str = "") -> T:
    """What is bound to the name; where nothing is, an error with the names that are."""
    if name in bound:
        return bound[name]
    near = get_close_matches(name, bound, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    there = ", ".join(map(repr, sorted(bound))) or "none"
    raise BindingError(f"there is no {what} named {name!r} (known: {there}){meant}{fix}")
