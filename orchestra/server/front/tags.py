"""The tags that a request gives its runs, in a header; without it, they have none. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.server.responses.problems import HttpProblem
from orchestra.tags import NAME_CHARS_MAX, TAGS_MAX, VALUE_CHARS_MAX, tags_of_header

if TYPE_CHECKING:
    from orchestra.server.front.arrival import Arrival

TAGS = "X-Orchestra-Tags"
ABOUT = (
    f"Tags of the run, as in `team=search, feature=summary`: at most {TAGS_MAX}, each a name of "
    f"{NAME_CHARS_MAX} and a value of {VALUE_CHARS_MAX} characters, percent-encoded."
)
_HEADER = TAGS.lower().encode()


class RequestTags:
    """A layer that reads the tags of a request."""

    async def admit(self, arrival: Arrival) -> HttpProblem | None:
        """Set the request's tags; a problem if they are not valid."""
        given = arrival.all_of(_HEADER)
        if not given:
            return None
        try:
            arrival.tags = tags_of_header(given)
        except ValueError as error:
            return bad_tags(f"`{TAGS}`: {error}")
        return None


def bad_tags(detail: str) -> HttpProblem:
    """The tags that a request gives its run are not valid."""
    return HttpProblem(400, "bad-tags", "The tags of the run are not valid.", detail)
