"""What `orchestra serve` serves, loaded again and again: modules, configuration, bindings.

Rules of the file: what is loaded anew stands beside what it replaces until it is checked. The file
of the configuration that was found once has to be there from then on, and so have those of state
and keys that were open: without them, nobody would be asked for a key, and nothing be counted. The
state is carried over where the configuration says the same of it, so that limits, budgets and
caches do not begin anew; it is then closed at the very end. Breakers and connections are new.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestra.cli.admission import admission_of
from orchestra.cli.loading import FOLDER, AnyPipeline, by_name, chosen, load_all
from orchestra.closing import Closing
from orchestra.errors import StateError

if TYPE_CHECKING:
    from orchestra.config import LocalBindings
    from orchestra.server.front import Admission
    from orchestra.server.serving import Loaded


MODELS_ONLY = ", or write an orchestra.toml: a server may have models only"
log = logging.getLogger("orchestra.server")


class Loader(Closing):
    """Pipelines and bindings of what a command line says.

    `said` are the settings that it says, over those of the configuration; `several` is as of
    `LocalBindings`. With `watches` it knows what files they come from. To be used in a `with`
    statement, around the server: it closes what was carried over.
    """

    def __init__(
        self,
        targets: Sequence[str],
        data: Path | None,
        config: Path | None,
        host: str,
        said: Mapping[str, Any],
        *,
        several: bool = False,
        watches: bool = False,
    ) -> None:
        self._targets = targets
        self._data = data
        self._config = config
        self._host = host
        self._said = said
        self._several = several
        self._watches = watches
        self._folders: set[Path] = set()
        self._stores: set[Path] = set()
        """The files of the stores that what was refused may have asked for in vain."""
        self._bindings: LocalBindings | None = None
        self._closing = ExitStack()
        self.pipelines: dict[str, AnyPipeline] = {}
        """What is served now, each under its name."""
        self.by_json: Mapping[str, AnyPipeline] = {}
        """Those of them that JSON can ask."""
        self.keyless = False
        """Whether nobody is asked for a key."""
        self.locked = False
        """Whether everybody is, and there is none yet."""

    @contextmanager
    def load(self) -> Iterator[Loaded]:
        """What is served, anew; left with an exception, all is as it was before.

        Raises:
            OrchestraError: something is wrong with a module or the configuration.
        """
        from orchestra.config import default_bindings
        from orchestra.config.finding import find
        from orchestra.server.serving import Loaded
        from orchestra.server.settings import Settings, said

        old, config = self._bindings, find(self._config, os.environ)
        self._stores = set()
        with self._modules():
            pipelines, by_json = self._served(self._import(configured=config is not None))
            new = default_bindings(self._data, config=config, several=self._several)
            store = new.stores.path
            self._stores = {store, store.with_name(f"{store.name}-wal")}
            carried = old is not None and new.use_state_of(old)
            if old is not None and carried:
                old.check_there()
            if config is not None:
                self._warn(pipelines.values(), new)
            settings = Settings(**{**said(new.rules), **self._said})
            admit = partial(self._admit, new)
            yield Loaded(
                pipelines,
                new,
                settings,
                admit,
                new.close,
                state=new.shared_state,
                flush=new.flush,
                by_json=by_json,
            )
        if old is not None and carried and (state := old.release_state()):
            self._closing.callback(state.close)
        self._bindings, self.pipelines, self._config = new, pipelines, config
        self.by_json, self._stores = by_json or {}, set()

    def state_place(self) -> str:
        """Where the state of what is served now is: its file, or its url."""
        if self._bindings is None:
            return ""
        scheme, _, rest = self._bindings.state_settings.url.partition(":")
        file = self._bindings.stores.path.parent / rest
        return str(file) if scheme == "sqlite" else f"{scheme}:{rest}"

    def watched(self) -> set[Path]:
        """The files whose change may change what is loaded, a refused load's included.

        Those of the stores only while one was refused: it may have named a store that was not
        there yet, and what is written into one that is there changes nothing.
        """
        from orchestra.config.finding import find

        found = {file for folder in self._folders for file in folder.glob("*.py")} | self._stores
        found.update(Path(FOLDER).rglob("*.py"))
        config = find(self._config, os.environ)
        return {*found, config} if config is not None else found

    def _warn(self, pipelines: Iterable[AnyPipeline], bindings: LocalBindings) -> None:
        """Log what `check` says of the configuration, and the server can do without."""
        found = bindings.deployment
        if found.budgets is None and not found.server.pipelines:
            return
        from orchestra.cli.installed import forgetful, unknown_pipelines, unpriced

        unknown = () if self._targets else unknown_pipelines(pipelines, found)
        for told in (*unknown, *unpriced(found), *forgetful(bindings)):
            log.warning("%s", told)

    def _served(
        self, pipelines: dict[str, AnyPipeline]
    ) -> tuple[dict[str, AnyPipeline], dict[str, AnyPipeline] | None]:
        """Those that clients can ask, and of them those that JSON can.

        All, where one that nobody can ask was named; then it is for the server to refuse it.
        """
        from orchestra.server.inputs import sorted_out

        by_json, refused = sorted_out(pipelines)
        if refused and self._targets:
            return pipelines, None
        for name, error in refused.items():
            log.warning("%s: %s", pipelines[name].where, error)
        return {name: each for name, each in pipelines.items() if name not in refused}, by_json

    async def _admit(self, bindings: LocalBindings) -> Admission:
        admission = await admission_of(bindings, self._host, asked=await self._asks())
        self.keyless = admission.own_pages is not None
        with suppress(StateError):  # of which the log tells with the first request
            self.locked = bindings.rules.keys == "required" and not await bindings.keys_made()
        return admission

    async def _asks(self) -> bool:
        """Whether what is served now asks for keys."""
        old = self._bindings
        if old is None or old.rules.keys == "none":
            return False
        try:
            return old.rules.keys == "required" or await old.keys_made()
        except StateError:  # rather one reload too few than everybody let in
            return True

    def _modules(self) -> AbstractContextManager[None]:
        if self._bindings is None:  # nothing was imported, and a start is in a hurry
            return nullcontext()
        from orchestra.cli.modules import imported_anew

        return imported_anew(self._tops())

    def _import(self, *, configured: bool) -> dict[str, AnyPipeline]:
        targets = chosen(self._targets, needed=not configured, instead=MODELS_ONLY)
        try:
            found = [load_all(each, needed=each in self._targets) for each in targets]
        finally:
            if self._watches:
                from orchestra.cli.modules import own_folders

                self._folders = own_folders(self._tops())
        return by_name(chain.from_iterable(found))

    def _tops(self) -> set[str]:
        """The top-level names of what was asked for."""
        return {each.function.__module__.partition(".")[0] for each in self.pipelines.values()}

    def close(self) -> None:
        """Close what was carried over."""
        self._closing.close()
