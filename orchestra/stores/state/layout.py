"""In which layout a state is kept, so that no older orchestra writes into that of a newer one.

The theory of it: records may get more fields, which who does not know them leaves out; that needs
no other layout. Where an older one would understand less than it believes to (other tables, other
keys, another meaning), `LAYOUT` is counted up, and whoever knows less than what is there refuses
all of it, and changes nothing. What has no layout was written before there was one: it is 1.

In Redis a mark says so, which also has a name that no other has: a Redis with another mark than
before, or without one, is not what it was, and whoever runs it has to know. Pure.
"""

from __future__ import annotations

import logging
import re
import secrets

from orchestra.errors import StateError

log = logging.getLogger("orchestra.stores")

LAYOUT = 1
"""That of this version."""
_MARK = re.compile(rb"([0-9]{1,9}) [0-9a-f]{16}")


def newer(place: object, layout: object) -> StateError:
    """What is said of a layout that we do not know."""
    return StateError(
        f"{place}: written by a newer orchestra (its layout is {layout}, this one knows {LAYOUT}), "
        "and nothing was changed; upgrade this one, or give it a state of its own"
    )


def new_mark() -> bytes:
    """The mark of what is kept from now on where nothing was."""
    return b"%d %s" % (LAYOUT, secrets.token_hex(8).encode())


class Marks:
    """The marks of one state, as they are seen one after the other."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._seen: bytes | None = None

    def see(self, mark: bytes | None) -> None:
        """Look at the mark that is there now; one that has changed is told in the log, once.

        Raises:
            StateError: it is of a newer version.
        """
        if mark is not None:
            found = _MARK.fullmatch(mark)
            if found is None:
                raise newer(self._place, repr(mark[:40]))
            if int(found[1]) > LAYOUT:
                raise newer(self._place, int(found[1]))
        if self._seen not in (None, mark):
            log.warning(
                "%s has lost what was kept there, or another Redis answers in its place: keys that "
                "are not there are refused, what was spent counts as not spent, limits begin anew, "
                "and runs and idempotency keys are unknown; restore it, and see that it keeps what "
                "it has over a restart (appendonly yes)",
                self._place,
            )
        self._seen = mark
