"""Who makes a request, and what they may ask for. Pure.

Deny by default: scopes that name nothing allow nothing.
"""

from __future__ import annotations

from orchestra.accounts import Caller
from orchestra.eventclass import frozen

EVERYTHING = "*"
"""In place of names: all of them."""


@frozen
class Scopes:
    """What may be asked for, by name. Routes are named among the models.

    A pipeline that may be run may ask any model: its code is the deployment's.
    """

    pipelines: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    metrics: bool = False
    """Whether the server's metrics may be read, which are about all callers."""
    end_users: bool = False
    """Whether a request may name the end user of the organisation for whom it is."""

    def may_run(self, pipeline: str) -> bool:
        """Whether the pipeline of this name may be run, and its runs be seen."""
        return EVERYTHING in self.pipelines or pipeline in self.pipelines

    def may_ask(self, model: str) -> bool:
        """Whether the model or route of this name may be asked, without a pipeline."""
        return EVERYTHING in self.models or model in self.models


@frozen
class Principal:
    """Who makes a request: on whose account it is, and what it may ask for."""

    caller: Caller
    scopes: Scopes

    def may_see(self, starter: Caller) -> bool:
        """Whether a run of `starter` may be seen, followed and cancelled.

        It may by its starter, and by the starter's organisation; that of an end user by the end
        user alone. A caller without a name sees runs that were started without one: without keys,
        all callers are the same.
        """
        return self.caller.tenant == starter.tenant

    def for_end_user(self, name: str) -> Principal:
        """The same, on behalf of an end user; the limits of the key and organisation stay."""
        whose = self.caller
        caller = Caller(whose.organisation, name, whose.key, whose.allowance, end_user=True)
        return Principal(caller, self.scopes)


ANYBODY = Principal(
    Caller(), Scopes(frozenset({EVERYTHING}), frozenset({EVERYTHING}), metrics=True)
)
"""The principal of all requests to a server without keys; only its own machine can reach it."""
