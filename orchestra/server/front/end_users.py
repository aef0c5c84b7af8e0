"""Finds the end user for whom a trusted key makes a request; no other module does. Pure.

A backend has one key for all of its users, and names one of them in a header. The header is never
ignored: otherwise the usage of one user would be charged to another.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestra.server.responses.problems import HttpProblem

if TYPE_CHECKING:
    from orchestra.access.principal import Principal
    from orchestra.server.front.arrival import Arrival

END_USER = "X-Orchestra-End-User"
NAME = "[!-+.0-~-]{1,100}"
"""Visible ASCII, at most as long as names in keys. Not with `/`, which separates organisation and
user, and not with a comma, with which a proxy joins two headers."""
_HEADER = END_USER.lower().encode()
_NAME = re.compile(NAME)


def identify(arrival: Arrival, principal: Principal | None) -> HttpProblem | None:
    """Set the request's principal: the holder of the key, or the end user that the request names.

    Returns the problem if the key may not name end users, or the name is invalid. Without a key,
    the header has no effect: the route decides whether it needs a key.
    """
    names = arrival.all_of(_HEADER)
    if names and principal is not None:
        if not principal.scopes.end_users:
            return no_end_users()
        if len(names) > 1 or not _NAME.fullmatch(names[0]):
            return bad_end_user(", ".join(names))
        principal = principal.for_end_user(names[0])
    arrival.principal = principal
    return None


def no_end_users() -> HttpProblem:
    """The key was not made to name end users, or there are no keys."""
    detail = (
        f"only a key that was made with `orchestra keys create --end-users` may send `{END_USER}`; "
        "use such a key, or leave the header out"
    )
    return HttpProblem(403, "not-allowed", "Your key may not do this.", detail)


def bad_end_user(given: str) -> HttpProblem:
    """The name of the end user is invalid, or there are several."""
    detail = (
        f"`{END_USER}: {given[:100]}` is not one name of 1 to 100 visible ASCII characters "
        "without / and comma; send an id, or a hash of the name"
    )
    return HttpProblem(400, "bad-end-user", "The end user's name is not valid.", detail)
