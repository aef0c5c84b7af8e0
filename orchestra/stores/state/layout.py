"""The version of a state's layout: an older orchestra never writes into a newer one's state.

The theory: a record may get more fields, which older versions ignore; that needs no new layout. A
change that older versions would misread (other tables, other keys, another meaning) raises
`LAYOUT`. A version that finds a higher layout than its own refuses the state, and changes nothing.
A state without a layout was written before layouts existed, and counts as layout 1.

In Redis, the layout is stored in a mark, together with a random name. If the mark is gone or its
name has changed, the data was lost or replaced, and a warning is logged.
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
    """The error for a layout that is newer than ours."""
    return StateError(
        f"{place}: written by a newer orchestra (its layout is {layout}, this one knows {LAYOUT}), "
        "and nothing was changed; upgrade this one, or give it a state of its own"
    )


def new_mark() -> bytes:
    """A new mark, for a Redis that has none."""
    return b"%d %s" % (LAYOUT, secrets.token_hex(8).encode())


class Marks:
    """Compares each mark that is read from a state with the one before."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._seen: bytes | None = None

    def see(self, mark: bytes | None) -> None:
        """Check the mark that was read now (None if there is none); log a change, once.

        Raises:
            StateError: the mark is from a newer version of orchestra.
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
                "are missing are refused, what was spent counts as not spent, limits start over, "
                "and runs and idempotency keys are unknown; restore it, and configure it to keep "
                "its data over a restart (appendonly yes)",
                self._place,
            )
        self._seen = mark
