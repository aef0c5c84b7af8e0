"""The environment variables that a deployment reads."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from orchestra.config.finding import VARIABLE
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.keys import AWS_BEARER, AWS_ID, AWS_SECRET, AWS_SESSION
from orchestra.providers.known.provider import HeaderScheme


def keys() -> AbstractSet[str]:
    """The variables that hold a key."""
    schemes = [each.scheme for each in PROVIDERS.values()]
    headers = [name for each in schemes if isinstance(each, HeaderScheme) for name in each.env]
    return {AWS_BEARER, AWS_ID, AWS_SECRET, AWS_SESSION, *headers}


def configuring() -> AbstractSet[str]:
    """All variables that a deployment reads."""
    rows = PROVIDERS.values()
    options = [name for each in rows for option in each.options for name in option.env]
    addresses = [name for each in rows for name in each.base_url_env]
    return {VARIABLE, *keys(), *options, *addresses}
