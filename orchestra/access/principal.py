"""Who makes a request, and what they may use. Pure.

Deny by default: scopes that name nothing allow nothing.
"""

from __future__ import annotations

from orchestra.accounts import Caller
from orchestra.eventclass import frozen

EVERYTHING = "*"
"""Allows every name, in place of a list of names."""


@frozen
class Scopes:
    """What a caller may use, by name; routes are listed under `models`.

    A pipeline may itself call any model: its code belongs to the deployment.
    """

    pipelines: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    metrics: bool = False
    """Whether the caller may read the server's metrics, which cover all callers."""
    end_users: bool = False
    """Whether a request may name the end user of the organisation that it is made for."""

    def may_run(self, pipeline: str) -> bool:
        """Whether the caller may run the pipeline of this name and see its runs."""
        return EVERYTHING in self.pipelines or pipeline in self.pipelines

    def may_ask(self, model: str) -> bool:
        """Whether the caller may call the model or route of this name directly."""
        return EVERYTHING in self.models or model in self.models


@frozen
class Principal:
    """Who makes a request: `caller` is whose account it is on, `scopes` what it may use."""

    caller: Caller
    scopes: Scopes

    def sees(self, starter: Caller, pipeline: str, model: str | None = None) -> bool:
        """Whether the caller may see a run that `starter` started, cancel it, and read its answer.

        It belongs to the starter's organisation, or to the end user alone. Within it, a run is
        visible to those who may run its `pipeline`. If a `model` was asked without a pipeline,
        which `relay` stands for, the run is also visible to the same user, with any key that may
        ask this model. On a server without keys, everybody is anonymous, and sees every run.
        """
        if self.caller.tenant != starter.tenant:
            return False
        if self.scopes.may_run(pipeline):
            return True
        return model is not None and starter.user == self.caller.user and self.scopes.may_ask(model)

    def for_end_user(self, name: str) -> Principal:
        """This principal on behalf of an end user; limits of key and organisation still hold."""
        whose = self.caller
        caller = Caller(whose.organisation, name, whose.key, whose.allowance, end_user=True)
        return Principal(caller, self.scopes)


ANYBODY = Principal(
    Caller(), Scopes(frozenset({EVERYTHING}), frozenset({EVERYTHING}), metrics=True)
)
"""The principal of all requests to a server without keys, which only its own machine can reach."""
