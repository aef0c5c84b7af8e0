"""What a step is given of the run it is part of."""

from __future__ import annotations

import attrs

from orchestra.protocols import Bindings, Embedder, Model, VectorStore
from orchestra.values import Usage


@attrs.define(eq=False)
class StepContext:
    """One step's `protocols.Context`."""

    run_id: str
    step: str
    bindings: Bindings
    usages: dict[str, Usage]

    def model(self, name: str) -> Model:
        """The model of this name. Raises BindingError."""
        return self.bindings.model(name)

    def embedder(self, name: str) -> Embedder:
        """The embedder of this name. Raises BindingError."""
        return self.bindings.embedder(name)

    def store(self, name: str) -> VectorStore:
        """The store of this name. Raises BindingError."""
        return self.bindings.store(name)

    def used(self, usage: Usage) -> None:
        """Add what a call consumed to the step's account."""
        so_far = self.usages.get(self.step)
        self.usages[self.step] = usage if so_far is None else so_far + usage
