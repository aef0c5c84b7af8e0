"""What may stand in `orchestra.toml`: names of keys, and of each the kind of its value.

A spec is a table: of each key its kind, or the spec of the table below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import attrs
from msgspec import Meta

from orchestra.policies.breaker import BreakerRule
from orchestra.policies.limit import CallLimits
from orchestra.protocols import Timeouts
from orchestra.providers.settings import Prices
from orchestra.values import Capabilities

ROUTE_MODELS_MAX = 32
"""Each of them may be asked for one request."""


@attrs.frozen
class Kind:
    """A kind of value: its type, as msgspec checks it, that in words, and an example in TOML."""

    type: Any
    words: str
    example: str


Spec: TypeAlias = Mapping[str, "Kind | Spec"]

_Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1000)]
TEXT = Kind(_Text, "a text", '"..."')
URL = Kind(
    Annotated[str, Meta(pattern=r"^https?://[^\s@/?#]+(/[^\s@?#]*)?\Z", max_length=1000)],
    "an address that begins with http:// or https://, without name, password and query",
    '"https://host.example/v1"',
)
WORD = Kind(  # goes into a URL, where anything else would be somewhere else
    Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*\Z", max_length=200)],
    "a word of letters, digits and . _ : -",
    '"..."',
)
VARIABLE = Kind(  # in capitals only, since most keys have both kinds of letters
    Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9_]*\Z", max_length=100)],
    "the name of an environment variable, in capitals",
    '"OPENAI_API_KEY"',
)
FILE = Kind(TEXT.type, "the name of a file", '"/run/secrets/openai"')
FOLDER = Kind(TEXT.type, "the name of a folder", '".orchestra"')
SECONDS = Kind(
    Annotated[float, Meta(gt=0, le=86_400)] | Literal["none"],
    'a number of seconds, over 0 and up to 86400, or "none"',
    "30",
)
TIME = Kind(
    Annotated[float, Meta(gt=0, le=86_400)], "a number of seconds, over 0 and up to 86400", "30"
)
TTL = Kind(
    Annotated[float, Meta(gt=0, le=366 * 86_400)],
    "a number of seconds, over 0 and up to a year",
    "3600",
)
SHARE = Kind(Annotated[float, Meta(gt=0, le=1)], "a share, over 0 and up to 1", "0.5")
COUNT = Kind(Annotated[int, Meta(gt=0, lt=2**53)], "a whole number over 0", "8")
ENTRIES = Kind(Annotated[int, Meta(gt=0, le=1000)], "a whole number from 1 to 1000", "100")
PRICE = Kind(
    Annotated[float, Meta(ge=0, le=1_000_000)], "a number of dollars for a million tokens", "1.25"
)
FLAG = Kind(bool, "true or false", "true")
DIMENSIONS = Kind(Annotated[int, Meta(gt=0, le=65_536)], "a whole number over 0", "768")
HEADERS = Kind(
    dict[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_|~-]+\Z")],
        Annotated[str, Meta(pattern=r"^[\x20-\x7e]*\Z")],
    ],
    "a table of HTTP headers, each a text of printable ASCII",
    '{ "X-Team" = "search" }',
)
EXTRAS = Kind(dict[str, Any], "a table", '{ service_tier = "flex" }')
NAMES = Kind(
    Annotated[list[_Text], Meta(min_length=1, max_length=ROUTE_MODELS_MAX)],
    f"a list of 1 to {ROUTE_MODELS_MAX} names of models",
    '["fast", "smart"]',
)
BY = Kind(
    Literal["order", "weight", "cost", "latency"],
    'one of "order", "weight", "cost", "latency"',
    '"order"',
)
WEIGHT = Kind(Annotated[float, Meta(gt=0, le=1_000_000)], "a number over 0 and up to 1000000", "2")
FALLBACK = Kind(
    bool | Annotated[list[_Text], Meta(min_length=1, max_length=100)],
    "true, false, or a list of names of errors",
    '["RateLimitError", "OverloadedError"]',
)


def _names(values: type, kind: Kind) -> Spec:
    return dict.fromkeys((field.name for field in attrs.fields(values)), kind)


CACHE: Spec = {
    "ttl_s": TTL,
    "answer_bytes_max": COUNT,
    "semantic": {"threshold": SHARE, "embedder": TEXT, "entries_max": ENTRIES},
}
REMOTE: Spec = {
    "base_url": URL,
    "key_env": VARIABLE,
    "key_file": FILE,
    "headers": HEADERS,
    "timeouts": _names(Timeouts, SECONDS),
    "limits": {**_names(CallLimits, COUNT), "wait_max_s": SECONDS, "adaptive": FLAG},
    "breaker": {
        **_names(BreakerRule, TIME),
        "enabled": FLAG,
        "slow_s": SECONDS,
        "failure_rate": SHARE,
        "slow_rate": SHARE,
        "calls_min": COUNT,
        "probes": COUNT,
    },
    "prices": _names(Prices, PRICE),
    "capabilities": {
        **_names(Capabilities, FLAG),
        "context_tokens": COUNT,
        "output_tokens_max": COUNT,
    },
    "extras": EXTRAS,
    "cache": CACHE,
}
"""What every model has that is reached over HTTP."""
STORES: Spec = {"data": FOLDER}
ROUTE: Spec = {"models": NAMES, "by": BY, "sticky": FLAG, "fallback": FALLBACK, "cache": CACHE}
"""What every route has; and `weights`, whose keys are its models."""
TABLES: Mapping[str, str] = {
    "models": "[models.NAME]",
    "embedders": "[embedders.NAME]",
    "routes": "[routes.NAME]",
    "stores": "[stores]",
}
"""The tables of the file, and how each is written."""
