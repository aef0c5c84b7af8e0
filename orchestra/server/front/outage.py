"""That keys cannot be looked up: one line in the log at its beginning, and one at its end."""

from __future__ import annotations

import logging

from orchestra.errors import StateError

log = logging.getLogger("orchestra.server")


class Outage:
    """That keys cannot be looked up: told in the log when it begins, and when it is over."""

    def __init__(self) -> None:
        self._known = False

    def goes_on(self, error: StateError) -> None:
        """A look-up has failed."""
        if not self._known:
            self._known = True
            log.error("keys cannot be looked up, and nobody is let in: %s", error)

    def is_over(self) -> None:
        """A look-up has not failed."""
        if self._known:
            self._known = False
            log.warning("keys can be looked up again")
