"""Loads and reloads what `orchestra serve` serves: modules, configuration, bindings.

Rules of the file: a new version exists beside the old one until it is checked. A configuration file
that was found once has to exist from then on, and so have open files of state and keys: without
them, keys would not be required, and nothing counted. The state is kept if its configuration is
unchanged, so that limits, budgets and caches are not reset, and so are connections to it and to a
database; the last version that uses them closes them. Breakers and connections to providers are
new. If the served version requires keys, so do all later ones, even if the keys are gone; only
`keys = "none"` ends that. This is recorded for later processes in the data folder and in the
supervisor's; for keys in `keys.sqlite`, which is in the data folder itself, only in the latter.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestra.cli.loading import FOLDER, AnyPipeline, by_name, chosen, load_all
from orchestra.cli.serving import required_keys
from orchestra.cli.serving.admission import admission_of, make_one
from orchestra.errors import StateError

if TYPE_CHECKING:
    from orchestra.config import LocalBindings
    from orchestra.server.front.layers import Admission
    from orchestra.server.processes.serving import Loaded


MODELS_ONLY = ", or write an orchestra.toml: a server may have models only"
log = logging.getLogger("orchestra.server")


class Loader:
    """Pipelines and bindings for a command line.

    `options` are its settings, which override the configuration. `worker` is the number of this
    worker, 0 if it is the only process: of several, the first logs what the configuration lacks.
    With `watches` it keeps track of the files that are loaded.
    """

    def __init__(
        self,
        targets: Sequence[str],
        data: Path | None,
        config: Path | None,
        host: str,
        options: Mapping[str, Any],
        *,
        worker: int = 0,
        watches: bool = False,
    ) -> None:
        self._targets = targets
        self._data = data
        self._config = config
        self._host = host
        self._options = options
        self._several = worker > 0
        self._tells = worker <= 1
        self._watches = watches
        self._folders: set[Path] = set()
        self._stores: set[Path] = set()
        """The files of stores, after a refused load: it may have named a missing store."""
        self._bindings: LocalBindings | None = None
        self._admission: Admission | None = None
        """The access settings of the served version."""
        self._coming: Admission | None = None
        """The access settings of the version loaded last, which may still be refused."""
        self._moves = False
        """Whether the version loaded last has another state than the served one."""
        self.pipelines: dict[str, AnyPipeline] = {}
        """The pipelines that are served now, by name."""
        self.by_json: Mapping[str, AnyPipeline] = {}
        """The served pipelines whose inputs can be sent as JSON."""
        self.keyless = False
        """Whether no key is needed."""
        self.locked = False
        """Whether a key is needed, and none was made yet."""
        self.metrics = True
        """Whether `/metrics` is to be served, if it can be."""

    @contextmanager
    def load(self) -> Iterator[Loaded]:
        """Load everything again; if the block raises, the previous version stays.

        Raises:
            OrchestraError: a module or the configuration has an error.
        """
        from orchestra.config import default_bindings
        from orchestra.config.finding import find_file
        from orchestra.server.processes.serving import Loaded
        from orchestra.server.settings import Settings, arguments_of

        old, config = self._bindings, find_file(self._config, os.environ)
        self._stores, self._coming = set(), None
        with self._modules():
            pipelines, by_json = self._served(self._import(configured=config is not None))
            new = default_bindings(self._data, config=config, several=self._several)
            with ExitStack() as refused:
                refused.callback(new.close)
                store = new.stores.path
                self._stores = {store, store.with_name(f"{store.name}-wal")}
                if old is not None:
                    new.opened.share(old.opened)
                    self._moves = new.state is not old.state
                    if not self._moves:
                        old.check_there()
                if config is not None and self._tells:
                    self._warn(pipelines.values(), new)
                settings = Settings(**{**arguments_of(new.rules), **self._options})
                _make_own(new, configured=config is not None)
                self.metrics = settings.metrics
                loaded = Loaded(
                    pipelines,
                    new,
                    settings,
                    partial(self._admit, new),
                    new.close,
                    state=new.shared_state,
                    by_json=by_json,
                )
                refused.pop_all()
            yield loaded
        if gone := sorted(self.pipelines.keys() - pipelines.keys()):
            log.warning("pipelines that are no longer served: %s", ", ".join(gone))
        models = () if old is None else old.names("model")
        if gone := sorted(set(models).difference(new.names("model"))):
            log.warning("models and routes that are no longer served: %s", ", ".join(gone))
        self._bindings, self.pipelines, self._config = new, pipelines, config
        self.by_json, self._stores, self._admission = by_json or {}, set(), self._coming
        if _requires_keys(self._admission):
            self._remember(new)
        elif new.rules.keys == "none":
            self._forget(new)

    def make_a_key(self) -> str:
        """The command that makes a key for this server."""
        from orchestra.config.finding import find_file

        return make_one(self._data, find_file(self._config, os.environ))

    def state_place(self) -> str:
        """The file or URL of the current state; empty if it is in the memory of this process."""
        if self._bindings is None or not self._bindings.shares_state:
            return ""
        scheme, _, rest = self._bindings.state_settings.url.partition(":")
        file = self._bindings.stores.path.parent / rest
        return str(file) if scheme == "sqlite" else f"{scheme}:{rest}"

    def watched(self) -> set[Path]:
        """The files whose changes may change what is loaded, including those of a refused load.

        Files of stores are included only after a refused load: it may have named a missing store;
        changes in existing stores have no effect.
        """
        from orchestra.config.finding import find_file

        found = {file for folder in self._folders for file in folder.glob("*.py")} | self._stores
        found.update(Path(FOLDER).rglob("*.py"))
        config = find_file(self._config, os.environ)
        return {*found, config} if config is not None else found

    def _warn(self, pipelines: Iterable[AnyPipeline], bindings: LocalBindings) -> None:
        """Log those complaints of `orchestra check` with which a server still starts."""
        deployment = bindings.deployment
        if deployment.budgets is None and not deployment.server.pipelines:
            return
        from orchestra.cli.deployment_checks import (
            forgotten_budgets,
            unknown_pipelines,
            unpriced_models,
        )

        unknown = () if self._targets else unknown_pipelines(pipelines, deployment)
        for complaint in (*unknown, *unpriced_models(deployment), *forgotten_budgets(bindings)):
            log.warning("%s", complaint)

    def _served(
        self, pipelines: dict[str, AnyPipeline]
    ) -> tuple[dict[str, AnyPipeline], dict[str, AnyPipeline] | None]:
        """The pipelines that clients can run, and those whose inputs can be sent as JSON.

        If a pipeline that no client can run was named explicitly, all of them, so that the server
        refuses it.
        """
        from orchestra.server.inputs.reading import sorted_out

        by_json, refused = sorted_out(pipelines)
        if refused and self._targets:
            return pipelines, None
        for name, error in refused.items():
            log.warning("%s: %s", pipelines[name].where, error)
        return {name: each for name, each in pipelines.items() if name not in refused}, by_json

    async def _admit(self, bindings: LocalBindings) -> Admission:
        from orchestra.cli.unknown_owners import unknown_owners

        if self._moves:  # a server keeps its state, even if the new one cannot be reached
            from orchestra.server.health import check_state

            await check_state(bindings)
        places = [] if bindings.rules.keys == "none" else await self._required_at(bindings)
        locked = partial(self._remember, bindings)
        admission = await admission_of(
            bindings, self._host, required_at=places, make=self.make_a_key(), on_lock=locked
        )
        self._coming = admission
        self.keyless = admission.own_pages is not None
        for note in await unknown_owners(bindings) if self._tells else ():
            log.warning("%s", note)
        with suppress(StateError):  # the first request logs it
            self.locked = not self.keyless and not await bindings.keys_made()
        return admission

    async def _required_at(self, bindings: LocalBindings) -> Collection[str]:
        """The places of keys that this server, or an earlier one, has required."""
        before = required_keys.places_in(self._record_folders(bindings.stores.path.parent))
        old = self._bindings
        if old is None or old.rules.keys == "none":
            return before
        try:
            required = (
                _requires_keys(self._admission)
                or old.rules.keys == "required"
                or await old.keys_made()
            )
        except StateError:  # a refused reload is better than a server without keys
            required = True
        return {*before, old.keys_at} if required else before

    def _remember(self, bindings: LocalBindings) -> None:
        """Record for later processes that keys are required."""
        from orchestra.config.bindings import KEYS_FILE

        data = bindings.stores.path.parent
        beside = bindings.keys_file == data / KEYS_FILE
        try:
            required_keys.remember(self._record_folders(None if beside else data), bindings.keys_at)
        except OSError as error:
            if bindings.rules.keys != "required":
                warning = (
                    'after a restart this server may not require keys; write keys = "required" in '
                    "[server]: %s"
                )
                log.warning(warning, error)

    def _forget(self, bindings: LocalBindings) -> None:
        try:
            required_keys.forget(self._record_folders(bindings.stores.path.parent))
        except OSError as error:
            log.warning("after a restart this server may still require keys: %s", error)

    def _record_folders(self, data: Path | None) -> list[Path]:
        """The folders that hold the records of required keys."""
        from orchestra.observe.counting import FOLDER_ENV

        ours = os.environ.get(FOLDER_ENV) if self._several else None
        return [*([data] if data else []), *([Path(ours)] if ours else [])]

    def _modules(self) -> AbstractContextManager[None]:
        if self._bindings is None:  # nothing was imported yet, and a start should be fast
            return nullcontext()
        from orchestra.cli.serving.modules import reimported

        return reimported(self._tops())

    def _import(self, *, configured: bool) -> dict[str, AnyPipeline]:
        targets = chosen(self._targets, needed=not configured, instead=MODELS_ONLY)
        try:
            found = [load_all(each, needed=each in self._targets) for each in targets]
        finally:
            if self._watches:
                from orchestra.cli.serving.modules import own_folders

                self._folders = own_folders(self._tops())
        return by_name(chain.from_iterable(found))

    def _tops(self) -> set[str]:
        """The top-level packages of the pipelines."""
        return {each.function.__module__.partition(".")[0] for each in self.pipelines.values()}


def _make_own(bindings: LocalBindings, *, configured: bool) -> None:
    """Make the objects of the project's own classes, so that their errors are found now.

    Raises:
        BindingError: one cannot be made.
    """
    bindings.stores.make_own()
    for own, settings in bindings.deployment.own_classes() if configured else ():
        (bindings.embedder if own.seam == "embedder" else bindings.model)(settings.name)


def _requires_keys(admission: Admission | None) -> bool:
    """Whether these access settings require keys."""
    if admission is None:
        return False
    unlocked = admission.unlocked
    return admission.keyring is not None or (unlocked is not None and unlocked.locked)
