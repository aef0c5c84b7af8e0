"""The objects that the names in pipelines refer to in this deployment.

It works without a configuration, a key and a network: with the embedder in wordllama's wheel, a
model that quotes its prompt, and one SQLite file.

Rules of the file: modules about models and providers are imported when a name is first looked up.
They take a tenth of the start-up time, and some pipelines name no model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from orchestra.closing import Closing, Opened
from orchestra.config.built_in import EMBEDDERS, MODELS, only_built_in
from orchestra.config.deployment.names import bound
from orchestra.config.deployment.server_rules import USUAL_RULES, ServerRules
from orchestra.config.deployment.stores import Stores
from orchestra.config.startup_warnings import make_all_or_warn, warn_built_in
from orchestra.engine.bindings import DeploymentBindings
from orchestra.engine.in_use import InUse
from orchestra.protocols import Embedder, Model, State, VectorStore

if TYPE_CHECKING:
    from orchestra.access.keyring import Keyring
    from orchestra.config.assembly import Assembly
    from orchestra.config.deployment.deployment import Deployment
    from orchestra.policies.gate import GuardState
    from orchestra.policies.limits.allowance import CallerRules
    from orchestra.policies.limits.callers import CallerLimits
    from orchestra.policies.money.budget import Budgets
    from orchestra.policies.money.purse import Purse
    from orchestra.providers.known.settings import ModelSettings, RouteSettings
    from orchestra.stores.state.private import UnmadeState
    from orchestra.stores.state.settings import StateSettings
    from orchestra.values import Capabilities

DATA = Path(".orchestra")
"""The default folder of the stores."""
STORE_FILE = "store.sqlite"
KEYS_FILE = "keys.sqlite"
KEYS_TIMEOUT_S = 1.0
"""It is better to wait for a disk or a busy host than to refuse a request."""
PATIENT_S = 5.0
"""A batch has no user who waits, and many rows at once: it may wait longer than lose an answer."""
STATE_FILE = "state.sqlite"
"""The default file of budgets, and of the state that several processes share."""


class LocalBindings(DeploymentBindings, Closing):
    """`Bindings` to the models, embedders and stores of a deployment.

    `stores` has the stores of the deployment's own classes, and the collections of its database, or
    else of `store.sqlite` in the data folder. `state` holds the state of policies: the one given,
    else the deployment's; with `several` processes, a state in memory becomes a file that they
    share. If `patient`, a call of it may take at least `PATIENT_S`. `budget_state` holds what
    callers have spent, and `keys` the API keys. Bindings that share `opened` use the same state and
    database if their settings are equal. Close them after the last run.
    """

    def __init__(
        self,
        data: Path = DATA,
        deployment: Deployment | None = None,
        environ: Mapping[str, str] = os.environ,
        *,
        state: State | None = None,
        several: bool = False,
        patient: bool = False,
    ) -> None:
        self.opened = Opened()
        self.stores = Stores(data / STORE_FILE, deployment, environ, self.opened)
        self._deployment = deployment
        self._environ = environ
        self._given_state = state
        self._models: dict[str, Model] = {}
        self._embedders: dict[str, Embedder] = {}
        self._data = data
        self._several = several
        self._least_s = PATIENT_S if patient else 0.0
        self.in_use = InUse()
        self.has_database = deployment is not None and deployment.database is not None

    @cached_property
    def deployment(self) -> Deployment:
        """The deployment that was given, else that of the keys in `environ`."""
        if self._deployment is not None:
            return self._deployment
        from orchestra.config.deployment.environment import from_environment

        return from_environment(self._environ)

    @cached_property
    def _only_built_in(self) -> bool:
        """Whether only the built-in names exist, so that no provider has to be imported."""
        return self._deployment is None and only_built_in(self._environ)

    def names(self, seam: str) -> Sequence[str]:
        """The names bound for `model` (routes included), `embedder` or `store`.

        For `store` it reads the file of the stores, or asks the database: this blocks until there
        is a connection, at most for the `timeout_s` of `[stores]`.

        Raises:
            BindingError: `seam` is none of the three.
            StoreError: the file is not one of stores, or the database does not answer.
        """
        seams: Mapping[str, Callable[[], Sequence[str]]] = {
            "model": lambda: [*self.deployment.models, *self.deployment.routes],
            "embedder": lambda: list(self.deployment.embedders),
            "store": self.stores.names,
        }
        if self._only_built_in:
            seams = {**seams, "model": lambda: [*MODELS], "embedder": lambda: [*EMBEDDERS]}
        return bound("seam", seam, seams)()

    def model(self, name: str) -> Model:
        """The model or route, made on first use.

        Raises:
            BindingError: there is no such model; or its key is missing, for a route all keys.
        """
        found = self._models.get(name)
        if found is None:
            models, routes = self.deployment.models, self.deployment.routes
            known: Mapping[str, ModelSettings | RouteSettings] = {**models, **routes}
            found = self._assembly.model(bound("model", name, known))
            self._models[name] = found
            if self._deployment is None:
                warn_built_in(known[name], self._environ)
        return found

    def capabilities(self, name: str) -> Capabilities:
        """What the model or route can do, by its settings: a class of your own may know more."""
        from orchestra.policies.requests.needs import together
        from orchestra.providers.known.addresses import capabilities

        models, routes = self.deployment.models, self.deployment.routes
        bound("model", name, {**models, **routes})
        several = routes[name].models.values() if name in routes else [models[name]]
        return together(map(capabilities, several))

    def embedder(self, name: str) -> Embedder:
        """The embedder, made on first use. Raises BindingError, also for a missing key."""
        if name not in self._embedders:
            settings = bound("embedder", name, self.deployment.embedders)
            self._embedders[name] = self._assembly.embedder(settings)
        return self._embedders[name]

    def store(self, name: str) -> VectorStore:
        """The store of this name, looked up on first use.

        Raises:
            BindingError: there is no such store, or its class cannot be instantiated.
            StoreError: the file of the stores is not one of stores.
        """
        return self.stores.store(name)

    def prepare(self) -> bool:
        if self._only_built_in:
            return False
        models, embedders = self.deployment.over_network()
        made = [partial(self.model, name) for name in models]
        make_all_or_warn([*made, *(partial(self.embedder, name) for name in embedders)])
        return bool(models or embedders)

    def load(self, named: Iterable[tuple[str, str]]) -> None:
        if self._only_built_in:
            uses = any(seam in {"model", "embedder"} for seam, _ in named)
        else:
            uses = self.deployment.uses_built_in(named)
        if uses:
            from orchestra.providers.wordllama import WordLlamaEmbedder

            make_all_or_warn([WordLlamaEmbedder().load])

    def states(self) -> Mapping[str, GuardState]:
        return self._assembly.states()

    @property
    def caller_calls_waiting(self) -> int:
        return self._assembly.caller_calls_waiting

    @cached_property
    def state(self) -> State:
        """The state of policies, made on first use.

        It needs no nursery: connections are opened when they are needed, and closed by `close`.

        Raises:
            BindingError: coredis is not installed, or the password's variable is not set.
        """
        return self._given_state or self._open(self.state_settings)

    @property
    def state_settings(self) -> StateSettings:
        """The settings of `state`: the deployment's, but a shared file for several processes."""
        from orchestra.stores.state.settings import StateSettings

        settings = self._configured_state or StateSettings()
        if settings.timeout_s < self._least_s:
            settings = structs.replace(settings, timeout_s=self._least_s)
        in_file = self._several and settings.url == "memory:"
        return structs.replace(settings, url=f"sqlite:{STATE_FILE}") if in_file else settings

    @cached_property
    def budget_state(self) -> State:
        """The state that holds the spending of callers, so that a restart does not lose it.

        It is `state`; but if that is in memory only because none is configured, `state.sqlite`.

        Raises:
            BindingError: as for `state`.
        """
        if self._given_state or self._several or self._configured_state:
            return self.state
        from orchestra.stores.state.private import UnmadeState

        return self._open_file(UnmadeState, STATE_FILE)

    @property
    def shared_state(self) -> State | None:
        """The state, if other processes can use it too, with the longer timeout of keys.

        A limit does without its state rather than wait long; for the record of a run we wait.

        Raises:
            BindingError: as for `state`.
        """
        return (self._given_state or self._patient) if self.shares_state else None

    @property
    def shares_state(self) -> bool:
        """Whether other processes can use the state, too."""
        return self._several or self._state_lasts

    def check_there(self) -> None:
        """Raise StateError if an open file of state or keys has been removed."""
        from orchestra.stores.state.sqlite import SqliteState

        for opened in self.opened.used.values():
            if isinstance(opened, SqliteState):
                opened.check_there()

    @cached_property
    def keys(self) -> State:
        """The state that holds API keys: `state` if it outlives this process, else `keys.sqlite`.

        That file is in the data folder, created with the first key, and readable only by its
        owner. If a state was given, it holds the keys, whatever it is.

        Raises:
            BindingError: as for `state`.
        """
        if self._given_state is not None:
            return self._given_state
        if self._state_lasts:
            return self._patient
        from orchestra.stores.state.private import PrivateState

        return self._open_file(PrivateState, KEYS_FILE)

    @cached_property
    def _patient(self) -> State:
        """The state with a longer timeout, for keys and runs, which wait, and log their errors."""
        from orchestra.stores.state.grouped import GroupedState

        settings = self.state_settings
        timeout_s = max(settings.timeout_s, KEYS_TIMEOUT_S)
        opened = self._open(structs.replace(settings, timeout_s=timeout_s), patient=True)
        if isinstance(opened, GroupedState):
            opened.log_no_outage()
        return opened

    def _open(self, settings: StateSettings, *, patient: bool = False) -> State:
        """The shared state of these settings; one with another timeout is a separate object."""
        from orchestra.stores.state.settings import open_state

        key = (settings, settings.certificates(), self._data, patient)
        return self.opened.shared(key, partial(open_state, settings, self._data, self._environ))

    def _open_file(self, kind: type[UnmadeState], name: str) -> State:
        path = self._data / name
        return self.opened.shared((kind, path), partial(kind, path, timeout_s=KEYS_TIMEOUT_S))

    @property
    def keys_at(self) -> str:
        """Where keys are kept, for messages."""
        file = self.keys_file
        return self.state_settings.url if file is None else str(file.absolute())

    @property
    def keys_file(self) -> Path | None:
        """The file that holds the keys; None if they are not in a file."""
        if self._given_state is None and not self._state_lasts:
            return self._data / KEYS_FILE
        from orchestra.stores.state.sqlite import SqliteState

        keys = self.keys
        return keys.path if isinstance(keys, SqliteState) else None

    @property
    def keyring(self) -> Keyring:
        """All API keys of the deployment."""
        from orchestra.access.keyring import Keyring

        return Keyring(self.keys)

    async def keys_made(self) -> bool:
        if self._given_state is None and not self._state_lasts and "keys" not in vars(self):
            try:  # enough for most servers, and it makes the start faster
                (self._data / KEYS_FILE).stat()  # noqa: ASYNC240 - it does not wait
            except FileNotFoundError:
                return False
            except OSError:
                pass  # it may exist: the keyring reports why it cannot be read
        return await self.keyring.any_made()

    @property
    def _state_lasts(self) -> bool:
        """Whether the state outlives this process."""
        return self._configured_state is not None and self._configured_state.url != "memory:"

    @property
    def _configured_state(self) -> StateSettings | None:
        """The state that the configuration names; None without a configuration file."""
        return None if self._deployment is None else self._deployment.state

    @property
    def rules(self) -> ServerRules:
        """The rules of the server; the defaults without a configuration file."""
        return USUAL_RULES if self._deployment is None else self._deployment.server

    @property
    def request_limits(self) -> CallerLimits:
        """The limits of callers and their keys on HTTP requests."""
        from orchestra.policies.limits.allowance import CallerRules
        from orchestra.policies.limits.callers import CallerLimits

        rules = self.caller_rules or CallerRules()
        return CallerLimits(rules.of_requests(), self.state, scope="http")

    @property
    def caller_rules(self) -> CallerRules | None:
        """The limits of callers in the configuration file; None if it has none."""
        return None if self._deployment is None else self._deployment.limits

    @property
    def budgets(self) -> Budgets | None:
        return None if self._deployment is None else self._deployment.budgets

    @property
    def model_limits(self) -> CallerLimits:
        """The limits of callers and their keys on calls and tokens of models."""
        return self._assembly.limits

    @property
    def purse(self) -> Purse:
        """The purse that charges all calls of models to the budgets of their callers."""
        return self._assembly.purse

    async def flush(self, within_s: float) -> None:
        """Write the results of calls that ended while their budgets' or limits' state was down.

        An engine does so when it closes, so call it only after calls outside an engine. Nearly
        always there is nothing to do.
        """
        if "_assembly" in vars(self):
            await self._assembly.flush(within_s)

    def close(self) -> None:
        """Close the files of stores, state and keys, and all kept connections.

        They must not be in use; those that other bindings share stay open. All are closed, even if
        closing one raises.
        """
        self.opened.close()

    @cached_property
    def _assembly(self) -> Assembly:
        from orchestra.config.assembly import Assembly
        from orchestra.providers.wordllama import WordLlamaEmbedder

        return Assembly(
            self.deployment,
            self._environ,
            lambda: self.state,
            self.embedder,
            WordLlamaEmbedder(),
            budget_state=lambda: self.budget_state,
            opened=self.opened,
            on_call=lambda: self.on_call,
            on_budget=lambda told: None if self.on_budget is None else self.on_budget(told),
        )
