"""Access rules of routes: applied after a route is matched, and denying by default. Pure.

Every route has one of these rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from orchestra.access.principal import Principal
from orchestra.server.front import caller_problems as problems
from orchestra.server.front.problems import HttpProblem


class Access(Protocol):
    """An access rule."""

    def refusal(
        self, principal: Principal | None, values: Mapping[str, object]
    ) -> HttpProblem | None:
        """The problem if this principal has no access, else None; `values` are from the path."""


class Public(msgspec.Struct, frozen=True):
    """Access for everybody, with a key or without."""

    def refusal(
        self, principal: Principal | None, values: Mapping[str, object]
    ) -> HttpProblem | None:
        """None."""
        del principal, values
        return None


class Known(msgspec.Struct, frozen=True):
    """Access with any valid key; the handler checks what its owner may see."""

    def refusal(
        self, principal: Principal | None, values: Mapping[str, object]
    ) -> HttpProblem | None:
        """None for a known principal."""
        del values
        return problems.key_missing() if principal is None else None


class MayRun(msgspec.Struct, frozen=True):
    """Access for callers who may run the pipeline whose name is in the path as `value`."""

    value: str = "name"

    def refusal(
        self, principal: Principal | None, values: Mapping[str, object]
    ) -> HttpProblem | None:
        """None if the principal's scopes have the pipeline."""
        if principal is None:
            return problems.key_missing()
        name = str(values[self.value])
        return None if principal.scopes.may_run(name) else problems.not_allowed("pipeline", name)


class MayCount(msgspec.Struct, frozen=True):
    """Access for keys that may read the server's metrics."""

    def refusal(
        self, principal: Principal | None, values: Mapping[str, object]
    ) -> HttpProblem | None:
        """None if the key was made for metrics."""
        del values
        if principal is None:
            return problems.key_missing()
        return None if principal.scopes.metrics else problems.no_metrics()


PUBLIC = Public()
KNOWN = Known()
MAY_RUN = MayRun()
MAY_COUNT = MayCount()
