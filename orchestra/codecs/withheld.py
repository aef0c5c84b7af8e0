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
"""The text in place of a message that only the server's owner may read."""
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
"""Errors whose messages contain keys, accounts, hosts or files, or quote a provider. Clients get
the class and this text; the log has the rest.
"""
_READABLE = (LimitReachedError,)
"""Our own subclasses of these errors, whose messages clients may read."""
BEGAN_WITH = "; it began with "
"""In messages about a cut answer or a proxy's page, the received bytes follow this text."""
_INTERNALS = re.compile(rf"(?<=_s = )([\d.e+-]+) from [^\s;]+(?=;)|{BEGAN_WITH}.*")


def is_withheld(kind: type[BaseException]) -> bool:
    """Whether the messages of these errors are withheld from clients."""
    if kind in WITHHELD:
        return True
    return issubclass(kind, tuple(WITHHELD)) and not issubclass(kind, _READABLE)


def for_clients(kind: type[BaseException], message: str) -> str:
    """The message of an error of this class, in the form that clients may read."""
    if is_withheld(kind):
        return next(words for each, words in WITHHELD.items() if issubclass(kind, each))
    return without_internals(message)


def without_internals(message: str) -> str:
    """A message without the hosts and the received bytes that it names."""
    return _INTERNALS.sub(lambda found: found[1] or "", message)
