"""The server's rules in a deployment: who may call it, from which web pages, and what runs do.

The server is a higher layer than the configuration, so its rules are plain values here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from orchestra.codecs.serving.allowlist import HTTPS_ONLY

Disconnect = Literal["cancel", "continue", "linger"]


class DisconnectRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does when its last reader has left; `linger` goes on for `linger_s` seconds."""

    disconnect: Disconnect = "cancel"
    linger_s: float = 30.0


CANCELS = DisconnectRule()


class ServerRules(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of the server, as configured.

    `keys`: "auto" requires an API key once one was ever made, "required" always, "none" never.
    `pass_fields` and `image_schemes` are the fields of clients' requests and the schemes of image
    URLs that may reach providers. `runs` has the settings for keeping runs, and `settings` those of
    the server itself, by name.
    """

    keys: Literal["auto", "required", "none"] = "auto"
    cors_origins: frozenset[str] = frozenset()
    cors_max_age_s: int = 600
    pass_fields: frozenset[str] = frozenset()
    image_schemes: frozenset[str] = HTTPS_ONLY
    disconnect: DisconnectRule = CANCELS
    pipelines: Mapping[str, DisconnectRule] = MappingProxyType({})
    runs: Mapping[str, Any] = MappingProxyType({})
    settings: Mapping[str, Any] = MappingProxyType({})


USUAL_RULES = ServerRules()
