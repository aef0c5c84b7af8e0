"""Bindings with more than the four methods of `protocols.Bindings`, and bindings with nothing.

A user's bindings need only those four methods. The engine and the server call the other methods
only on bindings that inherit from a class of this file.
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
    from orchestra.policies.money.ledger import OnBudget
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
    """Called for each network call of a model, while it is set."""
    on_budget: OnBudget | None = None
    """Called when a budget reaches a threshold or refuses a call, while it is set."""
    has_database: bool = False
    """Whether stores are in a database, which may be unreachable for a while."""
    in_use: InUse | None = None
    """The guard against use by two runs of Trio at once; None if the bindings need none."""

    @abstractmethod
    def prepare(self) -> bool:
        """Make the clients of network models now, and return whether there are any.

        Otherwise the first run would make them, and block the event loop meanwhile. A missing API
        key is an error only when its model is first used; here it is only logged.
        """

    def load(self, named: Iterable[tuple[str, str]]) -> None:
        """Load the built-in embedder if one of these names, each with its kind, needs it.

        Otherwise the first run would load it, and all others would wait. Loading takes about 0.2 s,
        and holds the interpreter's lock for most of that time, even in a thread.
        """

    @abstractmethod
    def states(self) -> Mapping[str, GuardState]:
        """The state of the breaker and the load of each remote model used so far, by name.

        It belongs to this object: all runs on it share the state, other processes do not.
        """

    @property
    def caller_calls_waiting(self) -> int:
        """How many calls of models wait for limits of their callers now, in this object."""
        return 0

    @property
    @abstractmethod
    def state(self) -> State:
        """The state of policies; created on first use. Raises BindingError."""

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

    async def flush(self, within_s: float) -> None:
        """Write what ended while its state could not be reached; the log says what was not written.

        Called when an engine closes, after its last run. Not shielded: if it is cancelled, call it
        again.
        """
        del within_s


class ScriptedBindings(Bindings):
    """Bindings that may contain scripts, which only a simulation plays."""

    @abstractmethod
    def refuse_scripts(self) -> None:
        """Raise DefinitionError if they contain scripts that an engine would ignore."""
