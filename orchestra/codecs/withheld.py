"""What errors say that is a server's own business, whatever format its clients are told in."""

from __future__ import annotations

import re

from orchestra.errors import (
    AuthenticationError,
    BindingError,
    MalformedStreamError,
    ModelConnectionError,
    OrchestraError,
    PermissionDeniedError,
    ProviderServerError,
    QuotaError,
    StateError,
    StoreError,
)

WITHHELD: tuple[type[OrchestraError], ...] = (
    *(AuthenticationError, PermissionDeniedError, QuotaError, ModelConnectionError),
    *(MalformedStreamError, ProviderServerError),
    *(BindingError, StateError, StoreError),
)
"""They name keys, accounts, hosts and files, or quote whatever a provider has sent. Clients learn
the class; the log tells the rest."""
BEGAN_WITH = "; it began with "
"""What stands behind it, in the message of a cut answer or of a proxy's page, is what was sent."""
_OWN = re.compile(rf"(?<=_s = )([\d.e+-]+) from [^\s;]+(?=;)|{BEGAN_WITH}.*")


def fit(message: str) -> str:
    """A message that clients are told, without the host and the bytes that are named in it."""
    return _OWN.sub(lambda found: found[1] or "", message)
