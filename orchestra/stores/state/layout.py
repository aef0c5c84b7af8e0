"""The version of a state's layout: no older orchestra writes into the state of a newer one. Pure.

The theory of it: a record may get more fields, which older versions ignore; that needs no new
layout. A change that older versions would misread (other tables, other keys, another meaning)
raises `LAYOUT`. A version that finds a higher layout than its own refuses the state, and changes
nothing. A state without a layout was written before there were any: it counts as 1.

In Redis, the layout is in a mark, together with a random name. If the mark is gone or has another
name, the data is not what it was, and the operator is told.
"""

from __future__ import annotations

import logging
import re
import secrets

from orchestra.errors import StateError

log = logging.getLogger("orchestra.stores")

LAYOUT = 1
"""The layout of this version."""
_MARK = re.compile(rb"([0-9]{1,9}) [0-9a-f]{16}")


def newer(place: object, layout: object) -> StateError:
    """The error for a layout that we do not know."""
    return StateError(
        f"{place}: written by a newer orchestra (its layout is {layout}, this one knows {LAYOUT}), "
        "and nothing was changed; upgrade this one, or give it a state of its own"
    )


def new_mark() -> bytes:
    """A mark for a Redis that has none."""
    return b"%d %s" % (LAYOUT, secrets.token_hex(8).encode())


class Marks:
    """Compares the marks of one state, as they are read one after the other."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._seen: bytes | None = None

    def see(self, mark: bytes | None) -> None:
        """Check the mark that is there now; a change of it is logged, once.

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
