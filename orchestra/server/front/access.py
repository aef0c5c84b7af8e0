"""Access rules of routes: applied after a route is matched, and denying by default. Pure.

Every route has one of these rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestra.access.principal import Principal
from orchestra.server.responses import caller_problems as problems
from orchestra.server.responses.problems import HttpProblem

Access = Callable[[Principal | None, Mapping[str, object]], HttpProblem | None]
"""A rule: why a principal may not, None where they may; the mapping is the values in the path."""


def public(principal: Principal | None, values: Mapping[str, object]) -> HttpProblem | None:
    """Let everybody in, with a key or without."""
    del principal, values
    return None


def known(principal: Principal | None, values: Mapping[str, object]) -> HttpProblem | None:
    """Let in whoever has a valid key; the handler looks at what they may see."""
    del values
    return problems.key_missing() if principal is None else None


def may_run(principal: Principal | None, values: Mapping[str, object]) -> HttpProblem | None:
    """Let in whoever may run the pipeline that stands in the path as `name`."""
    if principal is None:
        return problems.key_missing()
    name = str(values["name"])
    return None if principal.scopes.may_run(name) else problems.not_allowed("pipeline", name)


def may_count(principal: Principal | None, values: Mapping[str, object]) -> HttpProblem | None:
    """Let in whoever may read what the server counts."""
    del values
    if principal is None:
        return problems.key_missing()
    return None if principal.scopes.metrics else problems.no_metrics()
