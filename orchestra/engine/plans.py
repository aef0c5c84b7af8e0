"""Plans of an engine: those of the pipelines that it runs, and of those that its steps run."""

from __future__ import annotations

from collections.abc import Callable, Collection

from orchestra.compiler.plan import Plan, plan
from orchestra.graph.pipelines import Pipeline
from orchestra.protocols import Bindings

PLANS_MAX = 1024
"""More than a deployment has; a script may define pipelines in a loop."""


class Plans:
    """Makes the plans of pipelines for a deployment, and caches the last `PLANS_MAX`."""

    def __init__(self, bindings: Bindings) -> None:
        self._kept: dict[Pipeline[..., object], Plan] = {}
        self.make: Callable[[Pipeline[..., object], Collection[str]], Plan] = (
            lambda pipeline, unchecked: plan(pipeline, bindings, unchecked)
        )
        """Makes a plan; a simulation replaces this, to put scripts in place of steps."""

    @property
    def kept(self) -> tuple[Plan, ...]:
        """The cached plans, oldest first."""
        return tuple(self._kept.values())

    def of(self, pipeline: Pipeline[..., object], unchecked: Collection[str] = ()) -> Plan:
        """The plan of a pipeline, from the cache or made now.

        `unchecked` lists kinds of names that are not looked up: "model", "embedder" or "store".

        Raises:
            CheckError: the pipeline has problems; the error lists all of them.
            DefinitionError: the argument is not a pipeline.
        """
        made = self._kept.get(pipeline)
        if made is None:
            made = self._kept[pipeline] = self.make(pipeline, unchecked)
            if len(self._kept) > PLANS_MAX:
                del self._kept[next(iter(self._kept))]
        return made
