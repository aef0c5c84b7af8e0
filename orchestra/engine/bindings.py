"""Bindings with more than the four methods of `protocols.Bindings`, and bindings with nothing.

A user's bindings need only those four methods. The engine and the server use the other methods
only of bindings that inherit from a class of this file.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from orchestra.errors import BindingError
from orchestra.protocols import Bindings, Embedder, Model, State, VectorStore

if TYPE_CHECKING:
    from orchestra.engine.in_use import InUse
    from orchestra.policies.gate import GuardState
    from orchestra.policies.money.budget import Budgets
    from orchestra.policies.observed import OnCall


class NoBindings:
    """A deployment with nothing in it: no model, no embedder, no store."""

    def names(self, seam: str) -> tuple[str, ...]:
        """No names."""
        del seam
        return ()

    def model(self, name: str) -> Model:
        """Always raises BindingError."""
        raise BindingError(f"there is no model {name!r}: the engine was opened without bindings")

    def embedder(self, name: str) -> Embedder:
        """Always raises BindingError."""
        raise BindingError(f"there is no embedder {name!r}: the engine was opened without bindings")

    def store(self, name: str) -> VectorStore:
        """Always raises BindingError."""
        raise BindingError(f"there is no store {name!r}: the engine was opened without bindings")


class DeploymentBindings(Bindings):
    """Bindings that know the state of their deployment, which a server reports to operators."""

    on_call: OnCall | None = None
    """Called for each network call of a model; only for models first used after it is set."""
    has_database: bool = False
    """Whether stores are in a database, which may be away for a while."""
    in_use: InUse | None = None
    """The run of Trio that uses them, if two may not use them at once."""

    @abstractmethod
    def prepare(self) -> bool:
        """Make the clients of network models now, and return whether there are any.

        Otherwise the first run would make them, and block everything else meanwhile. A missing API
        key is an error only when its model is first used; here it is only logged.
        """

    def load(self, named: Iterable[tuple[str, str]]) -> None:
        """Load what is built in, if one of these names stands for it; each comes with its kind.

        Otherwise the first run would load it, and all others would wait. It takes some 0.2 s, and
        holds the interpreter's lock for most of them, also in a thread.
        """

    @abstractmethod
    def states(self) -> Mapping[str, GuardState]:
        """The breaker and the load of each remote model used so far, by name.

        They belong to this object: all its runs share them, other processes do not.
        """

    @property
    @abstractmethod
    def state(self) -> State:
        """The state of policies; made on first use. Raises BindingError."""

    @property
    @abstractmethod
    def budgets(self) -> Budgets | None:
        """The budgets of callers, if the deployment has any."""

    @property
    @abstractmethod
    def budget_state(self) -> State:
        """The state that keeps what callers have spent. Raises BindingError."""

    @abstractmethod
    async def keys_made(self) -> bool:
        """Whether any API key was ever created. Raises StateError."""


class ScriptedBindings(Bindings):
    """Bindings that may contain scripts, which only a simulation plays."""

    @abstractmethod
    def refuse_scripts(self) -> None:
        """Raise DefinitionError if they contain scripts that an engine would ignore."""
