"""A deployment that knows nothing of itself but that it is well."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from orchestra.engine.bindings import DeploymentBindings
from orchestra.policies.gate import GuardState
from orchestra.policies.money.budget import Budgets
from orchestra.protocols import State
from orchestra.stores.state.memory import MemoryState


class Well(DeploymentBindings):
    """It stands behind a class that says what names stand for; tests say what is otherwise."""

    def prepare(self) -> bool:
        return False

    def states(self) -> Mapping[str, GuardState]:
        return {}

    @cached_property
    def state(self) -> State:
        return MemoryState()

    @cached_property
    def budgets(self) -> Budgets | None:
        return None

    @cached_property
    def budget_state(self) -> State:
        return self.state

    async def keys_made(self) -> bool:
        return False
