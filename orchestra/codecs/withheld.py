"""The parts of errors that clients must not read, in any dialect."""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestra.errors import (
    AuthenticationError,
    BindingError,
    LimitReachedError,
    LimitUnknownError,
    MalformedStreamError,
    ModelConnectionError,
    ModelNotFoundError,
    OrchestraError,
    OverloadedError,
    PermissionDeniedError,
    ProviderServerError,
    QuotaError,
    RateLimitError,
    StateError,
    StoreError,
)

OWNERS = "its message is shown only to the server's owner"
"""The text for other errors of these classes."""
_LOG = "the server's log says more"
WITHHELD: Mapping[type[OrchestraError], str] = {
    LimitUnknownError: f"your limits cannot be checked at the moment; try again later; {_LOG}",
    AuthenticationError: f"the model's provider does not accept this server's key; {_LOG}",
    PermissionDeniedError: f"the model's provider does not let this server do that; {_LOG}",
    QuotaError: f"this server's quota at the model's provider is used up; {_LOG}",
    ModelNotFoundError: f"the model's provider does not know the model; {_LOG}",
    RateLimitError: "the model's provider limits this server's rate at the moment; try again later",
    ModelConnectionError: f"the connection to the model's provider failed; {_LOG}",
    MalformedStreamError: f"the model's provider sent an answer that cannot be read; {_LOG}",
    ProviderServerError: f"the model's provider failed; {_LOG}",
    OverloadedError: "the model's provider is overloaded at the moment; try again later",
    BindingError: f"this server is not set up for that; {_LOG}",
    StateError: f"this server's state cannot be reached at the moment; try again later; {_LOG}",
    StoreError: OWNERS,
}
"""Errors whose messages contain keys, accounts, hosts and files, or quote a provider. Clients get
the class and this text; the log has the rest.
"""
_TOLD = (LimitReachedError,)
"""Subclasses of these that are our own, and whose messages clients may read."""
BEGAN_WITH = "; it began with "
"""In messages about a cut answer or a proxy's page, the received bytes follow this text."""
_OWN = re.compile(rf"(?<=_s = )([\d.e+-]+) from [^\s;]+(?=;)|{BEGAN_WITH}.*")


def is_withheld(kind: type[BaseException]) -> bool:
    """Whether the messages of these errors are withheld from clients."""
    return kind in WITHHELD or (issubclass(kind, tuple(WITHHELD)) and not issubclass(kind, _TOLD))


def for_clients(kind: type[BaseException], message: str) -> str:
    """The text for clients in place of such an error's message."""
    if is_withheld(kind):
        return next(words for each, words in WITHHELD.items() if issubclass(kind, each))
    return without_internals(message)


def without_internals(message: str) -> str:
    """A message without the hosts and received bytes in it."""
    return _OWN.sub(lambda found: found[1] or "", message)
