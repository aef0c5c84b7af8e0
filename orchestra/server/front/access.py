"""Access rules of routes, applied after a route is matched. Pure.

Every route has one of these rules; `known` is the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestra.access.principal import Principal
from orchestra.server.responses import caller_problems as problems
from orchestra.server.responses.problems import HttpProblem

Access = Callable[[Principal | None, Mapping[str, object]], HttpProblem | None]
"""A rule: the problem if the principal may not use the route, else None; the mapping has the values
in the path."""


def public(principal: Principal | None, values: Mapping[str, object]) -> HttpProblem | None:
    """Allow every caller, with or without a key."""
    del principal, values
    return None


def known(principal: Principal | None, values: Mapping[str, object]) -> HttpProblem | None:
    """Allow every caller with a valid key; the handler decides what the caller may see."""
    del values
    return problems.key_missing() if principal is None else None


def may_run(principal: Principal | None, values: Mapping[str, object]) -> HttpProblem | None:
    """Allow callers who may run the pipeline whose name is the path's value `name`."""
    if principal is None:
        return problems.key_missing()
    name = str(values["name"])
    return None if principal.scopes.may_run(name) else problems.not_allowed("pipeline", name)


def may_count(principal: Principal | None, values: Mapping[str, object]) -> HttpProblem | None:
    """Allow callers who may read the server's metrics."""
    del values
    if principal is None:
        return problems.key_missing()
    return None if principal.scopes.metrics else problems.no_metrics()
