"""What the names in pipelines stand for in this deployment.

Works without a file, a key and a network: embeddings from wordllama's wheel, a model that
quotes, and the collections of one SQLite file.

Rules of the file: what is known of models and providers is imported when a name is first asked
for. It is a tenth of a start, and there are pipelines that name none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from msgspec import structs

from orchestra.closing import Closing
from orchestra.config.in_use import InUse
from orchestra.config.names import bound
from orchestra.config.server_rules import USUAL_RULES, ServerRules
from orchestra.config.usual import EMBEDDERS, MODELS, is_usual
from orchestra.errors import BindingError
from orchestra.protocols import Embedder, Model, State, VectorStore
from orchestra.providers.wordllama import WordLlamaEmbedder
from orchestra.stores.sqlite import SqliteStores

if TYPE_CHECKING:
    from orchestra.access.keyring import Keyring
    from orchestra.config.assembly import Assembly
    from orchestra.config.deployment import Deployment
    from orchestra.policies.allowance import CallerRules
    from orchestra.policies.callers import CallerLimits
    from orchestra.policies.gate import GuardState
    from orchestra.policies.observed import OnCall
    from orchestra.policies.purse import Purse
    from orchestra.providers.settings import ModelSettings, RouteSettings
    from orchestra.stores.state_settings import OpenState, StateSettings

DATA = Path(".orchestra")
"""Where stores are kept where nobody has said otherwise."""
STORE_FILE = "store.sqlite"
KEYS_FILE = "keys.sqlite"
KEYS_TIMEOUT_S = 1.0
"""Who waits for a disk, or a busy host, is better off than who is refused."""
STATE_FILE = "state.sqlite"


class LocalBindings(Closing):
    """`Bindings` to the models and embedders of a deployment, and to stores on this machine.

    Stores are the collections of `store.sqlite` in the data folder; `stores` is that file, to
    make new ones. `state` is where policies remember, by default what the deployment says; of one
    of several processes (`several`), a state in memory is in a file that they share. `keys` is
    where API keys are kept. Close it when its last run has ended, or use it in a `with`
    statement; forgetting it does the same.
    """

    def __init__(
        self,
        data: Path = DATA,
        deployment: Deployment | None = None,
        environ: Mapping[str, str] = os.environ,
        *,
        state: State | None = None,
        several: bool = False,
    ) -> None:
        self.stores = SqliteStores(data / STORE_FILE)
        self._deployment = deployment
        self._environ = environ
        self._given_state = state
        self._local = WordLlamaEmbedder()
        self._models: dict[str, Model] = {}
        self._embedders: dict[str, Embedder] = {}
        self._collections: dict[str, VectorStore] = {}
        self._data = data
        self._several = several
        self._state: OpenState | None = None
        self._lent = False
        self._keys: OpenState | None = None
        self._waited: OpenState | None = None
        self._in_use = InUse()
        self.on_call: OnCall | None = None
        """Is told of each call of a model over the network; of models first asked for later."""

    @cached_property
    def deployment(self) -> Deployment:
        """What is configured; where nothing was given, what keys in `environ` say."""
        if self._deployment is not None:
            return self._deployment
        from orchestra.config.environment import from_environment

        return from_environment(self._environ)

    @cached_property
    def _usual(self) -> bool:
        """Whether it has the usual names and no others, which asks nothing of providers."""
        return self._deployment is None and is_usual(self._environ)

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
        if self._usual:
            seams = {**seams, "model": lambda: [*MODELS], "embedder": lambda: [*EMBEDDERS]}
        return bound("seam", seam, seams)()

    def model(self, name: str) -> Model:
        """The model or route of this name; made when it is first asked for, and then kept.

        Raises:
            BindingError: there is none, or a key is missing, of a route's models too.
        """
        found = self._models.get(name)
        if found is None:
            models, routes = self.deployment.models, self.deployment.routes
            known: Mapping[str, ModelSettings | RouteSettings] = {**models, **routes}
            found = self._assembly.model(bound("model", name, known))
            self._models[name] = found
        return found

    def embedder(self, name: str) -> Embedder:
        """The embedder of this name; made when it is first asked for, and then kept.

        Raises:
            BindingError: there is none, or its key is missing.
        """
        if name not in self._embedders:
            settings = bound("embedder", name, self.deployment.embedders)
            self._embedders[name] = self._assembly.embedder(settings)
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
        return bound(f"store in {self.stores.path}", name, self._collections, fix)

    def in_one_run(self) -> AbstractContextManager[None]:
        """Use them in this run of Trio, and in no other meanwhile: for an engine's whole life.

        Raises:
            RunError: another run uses them, or they were used before this process was forked.
        """
        return self._in_use.by_this_run()

    def prepare(self) -> bool:
        """Make what is reached over the network now, and tell whether there is any of it.

        Otherwise the first run would, and everything else would stand still meanwhile. What has
        no key is still an error when it is first asked for, and not before.
        """
        if self._usual:
            return False
        models, embedders = self.deployment.over_network()
        for make, names in ((self.model, models), (self.embedder, embedders)):
            for name in names:
                with suppress(BindingError):
                    make(name)
        return bool(models or embedders)

    def states(self) -> Mapping[str, GuardState]:
        """The breaker and the load of each remote model that has been asked for, by its name.

        They are this object's own: all runs that it serves share them, other processes do not.
        """
        return self._assembly.states()

    @property
    def state(self) -> State:
        """What policies remember; made when it is first asked for, and then kept.

        It needs no nursery: what it opens it opens when it is used, and `close` closes it.

        Raises:
            BindingError: coredis is not installed, or the password's variable is not set.
        """
        if self._given_state is not None:
            return self._given_state
        if self._state is None:
            from orchestra.stores.state_settings import open_state

            self._state = open_state(self.state_settings, self._data, self._environ)
        return self._state

    @property
    def state_settings(self) -> StateSettings:
        """Where the state is; keys are where the deployment says: who makes them looks there."""
        from orchestra.stores.state_settings import StateSettings

        # what keys in the environment say is of models only, and takes a while to find out
        said = StateSettings() if self._deployment is None else self._deployment.state
        in_file = self._several and said.url == "memory:"
        return structs.replace(said, url=f"sqlite:{STATE_FILE}") if in_file else said

    @property
    def shared_state(self) -> State | None:
        """Where `state` is, if other processes see it too, and waited for as keys are.

        What a limit rather passes by than waits for, a run that is to be known must be waited for.

        Raises:
            BindingError: as of `state`.
        """
        if self.state_settings.url == "memory:":
            return None
        return self._given_state or self._patient

    def use_state_of(self, other: LocalBindings) -> bool:
        """Remember where `other` does, if that is the same place, and tell; `other` closes it.

        Raises:
            BindingError: as of `state`.
        """
        if self.state_settings != other.state_settings or self._data != other._data:
            return False
        self._state, self._lent = cast("OpenState", other.state), True
        return True

    def check_there(self) -> None:
        """Raise StateError where a file of state or keys that was open is gone."""
        for opened in (self._state, self._keys, self._waited):
            getattr(opened, "check_there", bool)()

    def release_state(self) -> OpenState | None:
        """The state that it would close, which it goes on to use; None if there is none."""
        opened, lent = self._state, self._lent
        self._lent = True
        return None if lent else opened

    @property
    def keys(self) -> State:
        """Where API keys are kept: the state, if it outlives this process, else `keys.sqlite`.

        That file is in the data folder, made with the first key, and its owner's alone. A state
        that was given is where they are, whatever it is.

        Raises:
            BindingError: as of `state`.
        """
        if self._given_state is not None:
            return self._given_state
        if self._shared:
            return self._patient
        if self._keys is None:
            from orchestra.stores.state_private import PrivateState

            self._keys = PrivateState(self._data / KEYS_FILE, timeout_s=KEYS_TIMEOUT_S)
        return self._keys

    @property
    def _patient(self) -> State:
        """The state, as those see it who have to wait for it."""
        if self._waited is None:
            from orchestra.stores.state_settings import open_state

            said = self.state_settings
            patient = structs.replace(said, timeout_s=max(said.timeout_s, KEYS_TIMEOUT_S))
            self._waited = open_state(patient, self._data, self._environ)
        return self._waited

    @property
    def keys_at(self) -> str:
        """Where that is, for a person."""
        path = getattr(self.keys, "path", None)
        return str(path.absolute()) if isinstance(path, Path) else self.deployment.state.url

    @property
    def keyring(self) -> Keyring:
        """All API keys of the deployment."""
        from orchestra.access.keyring import Keyring

        return Keyring(self.keys)

    async def keys_made(self) -> bool:
        """Whether any API key was ever made.

        Raises:
            StateError: it cannot be told, or the file that they were in is gone.
        """
        if self._given_state is None and not self._shared and self._keys is None:
            try:  # of most servers this is all that there is to know, and a start is in a hurry
                (self._data / KEYS_FILE).stat()  # noqa: ASYNC240 - it does not wait
            except FileNotFoundError:
                return False
            except OSError:
                pass  # it may be there: the keyring says why it cannot be read
        return await self.keyring.any_made()

    async def keys_left_behind(self) -> Path | None:
        """The file in which keys were made, where they are not looked for any more; mostly none.

        Raises:
            StateError: it cannot be read.
        """
        path = self._data / KEYS_FILE
        if not self._shared or self._given_state or not path.exists():  # noqa: ASYNC240 - no wait
            return None
        from orchestra.access.keyring import Keyring
        from orchestra.stores.state_private import PrivateState

        with PrivateState(path, timeout_s=KEYS_TIMEOUT_S) as left:
            return path if await Keyring(left).any_made() else None

    @property
    def _shared(self) -> bool:
        """Whether the state is there when this process is not."""
        return self._deployment is not None and self._deployment.state.url != "memory:"

    @property
    def rules(self) -> ServerRules:
        """What is said of the server; the usual, where there is no file."""
        return USUAL_RULES if self._deployment is None else self._deployment.server

    @property
    def request_limits(self) -> CallerLimits:
        """How many requests callers may send over HTTP, by themselves and with their keys."""
        from orchestra.policies.allowance import CallerRules
        from orchestra.policies.callers import CallerLimits

        return CallerLimits(
            (self.caller_rules or CallerRules()).of_requests(), self.state, scope="http"
        )

    @property
    def caller_rules(self) -> CallerRules | None:
        """The limits of callers, where the file has any."""
        return None if self._deployment is None else self._deployment.limits

    @property
    def model_limits(self) -> CallerLimits:
        """How many requests and tokens callers may ask of models, by themselves and with keys."""
        return self._assembly.limits

    @property
    def purse(self) -> Purse:
        """What pays for all models, by whatever budgets callers have."""
        return self._assembly.purse

    async def flush(self, within_s: float) -> None:
        """Pay for calls that could not be paid for when they ended: behind the last of them.

        Shielded, and for so long at the most; nearly always there is nothing to do.
        """
        if "_assembly" in vars(self):
            await self._assembly.flush(within_s)

    def close(self) -> None:
        """Close the files of stores, state and keys, and all connections that are kept.

        Nothing that uses them may be under way.
        """
        for opened in (None if self._lent else self._state, self._keys, self._waited):
            if opened is not None:
                opened.close()
        if "_assembly" in vars(self):  # something was asked for
            self._assembly.close()
        self.stores.close()

    @cached_property
    def _assembly(self) -> Assembly:
        from orchestra.config.assembly import Assembly

        return Assembly(
            self.deployment,
            self._environ,
            lambda: self.state,
            self.embedder,
            self._local,
            on_call=self.on_call,
        )
