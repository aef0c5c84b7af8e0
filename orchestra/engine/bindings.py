"""Bindings that are more than what names stand for, or nothing at all.

Whoever writes bindings needs only the four methods of `protocols.Bindings`. Those that inherit
from a class of this file are asked for what it says, and no others are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
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
    """Bindings that know how their deployment is: a server asks them, and tells operators."""

    on_call: OnCall | None = None
    """Is told of each call of a model over the network; of models first asked for later."""
    in_use: InUse | None = None
    """Which run of Trio uses them, where no two may at once."""

    @abstractmethod
    def prepare(self) -> bool:
        """Make what is reached over the network now, and tell whether there is any of it.

        Otherwise the first run would, and everything else would stand still meanwhile. What has
        no key is still an error when it is first asked for; before, there is a line in the log.
        """

    @abstractmethod
    def states(self) -> Mapping[str, GuardState]:
        """The breaker and the load of each remote model that has been asked for, by its name.

        They are this object's own: all runs that it serves share them, other processes do not.
        """

    @property
    @abstractmethod
    def state(self) -> State:
        """What policies remember; made when it is first asked for. Raises BindingError."""

    @property
    @abstractmethod
    def budgets(self) -> Budgets | None:
        """What callers may spend, where that is said."""

    @property
    @abstractmethod
    def budget_state(self) -> State:
        """Where it is kept what callers have spent. Raises BindingError."""

    @abstractmethod
    async def keys_made(self) -> bool:
        """Whether any API key was ever made. Raises StateError."""


class ScriptedBindings(Bindings):
    """Bindings that may hold scripts, which only a simulation plays."""

    @abstractmethod
    def refuse_scripts(self) -> None:
        """Nothing, where an engine leaves nothing of them out; else raises DefinitionError."""
