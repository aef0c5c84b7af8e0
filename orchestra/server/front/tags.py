"""The tags that a request gives its run, in a header or in its body. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.errors import InputError
from orchestra.server.responses.caller_problems import TAGS
from orchestra.tags import NAME_CHARS_MAX, TAGS_MAX, VALUE_CHARS_MAX, Tags, fault_of, tags_of_header

if TYPE_CHECKING:
    from orchestra.server.front.arrival import Arrival

ABOUT = (
    f"Tags of the run, as in `team=search, feature=summary`: at most {TAGS_MAX}, each a name of "
    f"{NAME_CHARS_MAX} and a value of {VALUE_CHARS_MAX} characters, percent-encoded."
)
_HEADER = TAGS.lower().encode()


def tags_of_run(arrival: Arrival, beside: Tags) -> Tags:
    """The tags `beside` the header, such as those in the body, and those of the header, which win.

    Raises:
        InputError: the header says no tags; or together they exceed a bound.
    """
    given = arrival.all_of(_HEADER)
    if not given:
        return beside
    try:
        found = {**beside, **tags_of_header(given)}
    except ValueError as error:
        raise InputError(f"`{TAGS}`: {error}", field=TAGS) from None
    if fault := fault_of(found):
        raise InputError(f"`{TAGS}`, and the tags beside it: {fault}", field=TAGS)
    return found
