"""The descriptions of all operations: parameters, statuses, content types, schemas. Pure.

They are looked up by the name of the route and the method, since routes are defined where they are
served; a test finds routes without a description. Problems are described by calling the functions
that make them, so that the document agrees with the responses.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.errors import BudgetExceededError, LimitReachedError, LimitUnknownError
from orchestra.server.front import end_users, keyless
from orchestra.server.front.layers import Admission
from orchestra.server.openapi import anthropic, openai, responses, runs, service_routes, socket
from orchestra.server.openapi.words import Operation
from orchestra.server.responses import caller_problems, problems
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.settings import Settings
from orchestra.values import Json

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    **service_routes.OPERATIONS,
    **runs.OPERATIONS,
    **socket.OPERATIONS,
    **openai.OPERATIONS,
    **responses.OPERATIONS,
    **anthropic.OPERATIONS,
}
SCHEMAS: Mapping[str, Json] = {
    **runs.SCHEMAS,
    **socket.SCHEMAS,
    **openai.SCHEMAS,
    **responses.SCHEMAS,
    **anthropic.SCHEMAS,
}
"""The schemas that operations refer to, by name."""


def problems_of_all(settings: Settings) -> tuple[HttpProblem, ...]:
    """The problems that can occur in any request."""
    return (
        problems.too_large(settings.body_limit_bytes),
        problems.target_too_long(settings.target_limit_bytes),
        problems.too_many_headers(settings.headers_max),
        problems.server_failed(),
    )


def problems_of_callers(admission: Admission) -> tuple[HttpProblem, ...]:
    """The problems of callers before a request reaches its route: of keys, rates, budgets."""
    found: list[HttpProblem] = []
    if admission.keyring is not None:
        found += [caller_problems.key_refused(each) for each in caller_problems.REASONS]
        found.append(caller_problems.keys_unreachable())
        found += [end_users.no_end_users(), end_users.bad_end_user("")]
    if admission.own_pages is not None:
        found += [keyless.foreign_host("elsewhere.example"), keyless.foreign_page(None)]
    if admission.rates is not None:
        found += map(caller_problems.your_rate, (LimitReachedError(""), LimitUnknownError("")))
    if admission.purse is not None:
        found.append(caller_problems.your_budget(BudgetExceededError("")))
    return tuple(found)
