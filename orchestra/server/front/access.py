"""Who may use a route: decided where it was matched, and denied by default. Pure.

Every route has a rule from here; there is no route without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from orchestra.access.principal import Principal
from orchestra.server.front import caller_problems as problems
from orchestra.server.front.problems import HttpProblem


class Access(Protocol):
    """A rule: whom it lets in."""

    def refusal(
        self, principal: Principal | None, values: Mapping[str, object]
    ) -> HttpProblem | None:
        """Why this principal may not, None where they may; `values` are those in the path."""


class Public(msgspec.Struct, frozen=True):
    """Everybody, with a key or without."""

    def refusal(
        self, principal: Principal | None, values: Mapping[str, object]
    ) -> HttpProblem | None:
        """None."""
        del principal, values
        return None


class Known(msgspec.Struct, frozen=True):
    """Whoever has a key that is valid; the handler looks at what they may see of it."""

    def refusal(
        self, principal: Principal | None, values: Mapping[str, object]
    ) -> HttpProblem | None:
        """None of those who are known."""
        del values
        return problems.key_missing() if principal is None else None


class MayRun(msgspec.Struct, frozen=True):
    """Whoever may run the pipeline that stands in the path as `value`."""

    value: str = "name"

    def refusal(
        self, principal: Principal | None, values: Mapping[str, object]
    ) -> HttpProblem | None:
        """None of those whose scopes have the pipeline."""
        if principal is None:
            return problems.key_missing()
        name = str(values[self.value])
        return None if principal.scopes.may_run(name) else problems.not_allowed("pipeline", name)


class MayCount(msgspec.Struct, frozen=True):
    """Whoever may read what the server counts."""

    def refusal(
        self, principal: Principal | None, values: Mapping[str, object]
    ) -> HttpProblem | None:
        """None of those whose key was made for it."""
        del values
        if principal is None:
            return problems.key_missing()
        return None if principal.scopes.metrics else problems.no_metrics()


PUBLIC = Public()
KNOWN = Known()
MAY_RUN = MayRun()
MAY_COUNT = MayCount()
