"""Who stands behind a request, and what they may ask for. Pure.

Deny by default: scopes that name nothing allow nothing.
"""

from __future__ import annotations

import attrs

from orchestra.accounts import Caller

EVERYTHING = "*"
"""In place of names: all of them."""


@attrs.frozen
class Scopes:
    """What may be asked for, by name. Routes are asked for as models, and so are named there.

    Who may run a pipeline may have it ask its own models: that code is the deployment's.
    """

    pipelines: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    metrics: bool = False
    """Whether the server's own counts may be read: they tell of everybody."""

    def may_run(self, pipeline: str) -> bool:
        """Whether the pipeline of this name may be run, and its runs be seen."""
        return EVERYTHING in self.pipelines or pipeline in self.pipelines

    def may_ask(self, model: str) -> bool:
        """Whether the model or route of this name may be asked, without a pipeline."""
        return EVERYTHING in self.models or model in self.models


@attrs.frozen
class Principal:
    """Whoever a request comes from: on whose account it is, and what it may ask for."""

    caller: Caller
    scopes: Scopes

    def may_see(self, starter: Caller) -> bool:
        """Whether what `starter` has started may be seen, followed and cancelled.

        That is whoever has started it, and their organisation. A caller without a name sees what
        was started without one: where there are no keys, everybody is the same.
        """
        if starter.organisation:
            return self.caller.organisation == starter.organisation
        return not self.caller.organisation and self.caller.user == starter.user


ANYBODY = Principal(
    Caller(), Scopes(frozenset({EVERYTHING}), frozenset({EVERYTHING}), metrics=True)
)
"""Whoever asks a server that has no keys: it can be reached from its own machine only."""
