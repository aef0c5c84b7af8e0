"""What can be asked of each route, and what it answers: statuses, content types, schemas. Pure.

By the name of the route and the method, since a route is told where it is served and described
here; a test finds what has no description. Problems are told by the functions that make them, so
that what is documented is what is answered.
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
"""The schemas of what several routes answer, by name."""


def problems_of_all(settings: Settings) -> tuple[HttpProblem, ...]:
    """The problems that any request can be answered with."""
    return (
        problems.too_large(settings.body_limit_bytes),
        problems.target_too_long(settings.target_limit_bytes),
        problems.too_many_headers(settings.headers_max),
        problems.server_failed(),
    )


def problems_of_callers(admission: Admission) -> tuple[HttpProblem, ...]:
    """The problems that a caller can be answered with before any route is reached."""
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
        found.append(caller_problems.your_budget(_SPENT))
    return tuple(found)


_SPENT = BudgetExceededError("")
