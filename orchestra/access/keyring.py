"""The keys of a deployment, kept in a `State`."""

from __future__ import annotations

from orchestra.access.keys import Refusal
from orchestra.access.principal import Principal
from orchestra.protocols import State


class Keyring:
    """All API keys, wherever the state keeps them."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def authenticate(self, token: str) -> Principal | Refusal:
        """Who holds this token, looked up each time; or why it lets nobody in.

        Raises:
            StateError: the state is gone, or too slow: nobody may be let in.
        """
        raise NotImplementedError(f"{self._state}: not yet written")

    async def any_made(self) -> bool:
        """Whether any key was ever made: from then on nobody is let in without one.

        Raises:
            StateError: as of `authenticate`.
        """
        raise NotImplementedError(f"{self._state}: not yet written")
