"""Errors whose messages are a server's own business, whatever format its clients are told in."""

from __future__ import annotations

from orchestra.errors import (
    AuthenticationError,
    BindingError,
    ModelConnectionError,
    OrchestraError,
    PermissionDeniedError,
    QuotaError,
    StateError,
    StoreError,
)

WITHHELD: tuple[type[OrchestraError], ...] = (
    *(AuthenticationError, PermissionDeniedError, QuotaError, ModelConnectionError),
    *(BindingError, StateError, StoreError),
)
"""They name keys, accounts, hosts and files. Clients learn the class; the log tells the rest."""
