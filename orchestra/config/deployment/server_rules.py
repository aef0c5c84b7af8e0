"""What a deployment says of its server: who may ask, from which pages, what becomes of runs.

The server stands above the configuration, so what is said of it is a value of its own here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from orchestra.codecs.serving.allowlist import HTTPS_ONLY

Disconnect = Literal["cancel", "continue", "linger"]


class DisconnectRule(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a run when its last reader has left; `linger` waits for `linger_s`."""

    disconnect: Disconnect = "cancel"
    linger_s: float = 30.0


CANCELS = DisconnectRule()


class ServerRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says of the server.

    `keys`: "auto" asks for keys as soon as one was ever made, "required" always, "none" never.
    `pass_fields` and `image_schemes` are what of clients' requests may reach providers, and
    `store_answers` is whether answers are kept for clients of OpenAI's API that want it.
    `runs` are what is said of keeping runs, by name, and `bounds` of the server itself.
    """

    keys: Literal["auto", "required", "none"] = "auto"
    cors_origins: frozenset[str] = frozenset()
    cors_max_age_s: int = 600
    pass_fields: frozenset[str] = frozenset()
    image_schemes: frozenset[str] = HTTPS_ONLY
    store_answers: bool = True
    disconnect: DisconnectRule = CANCELS
    pipelines: Mapping[str, DisconnectRule] = MappingProxyType({})
    runs: Mapping[str, Any] = MappingProxyType({})
    bounds: Mapping[str, Any] = MappingProxyType({})


USUAL_RULES = ServerRules()
