"""The keys that `orchestra.toml` may have, and the kind of value of each.

A spec describes a table: it maps each key to its kind, or to the spec of a nested table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import attrs
from msgspec import Meta

from orchestra.codecs.serving.allowlist import GUARDED
from orchestra.policies.health.breaker import BreakerRule
from orchestra.policies.limits.limit import CallLimits
from orchestra.protocols import Timeouts
from orchestra.providers.known.settings import Prices
from orchestra.stores.postgres import settings as postgres_settings
from orchestra.stores.state import settings as state_settings
from orchestra.values import Capabilities

ROUTE_MODELS_MAX = 32
"""A single request may call each of them."""


@attrs.frozen
class Kind:
    """A kind of value: the type that msgspec checks, its name in words, and an example in TOML."""

    type: Any
    words: str
    example: str


Spec: TypeAlias = Mapping[str, "Kind | Spec"]
NO_LIMIT = "none"
"""The value that switches a bound off."""


def _one_of(*words: str, example: str) -> Kind:
    """A kind with a few words as its values."""
    listed = [f'"{word}"' for word in words]
    text = " or ".join(listed) if len(words) == 2 else f"one of {', '.join(listed)}"  # noqa: PLR2004
    return Kind(Literal[words], text, f'"{example}"')


_Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1000)]
TEXT = Kind(_Text, "a text", '"..."')
URL = Kind(
    Annotated[str, Meta(pattern=r"^https?://[^\s@/?#]+(/[^\s@?#]*)?\Z", max_length=1000)],
    "an address that begins with http:// or https://, without name, password and query",
    '"https://host.example/v1"',
)
WORD = Kind(  # part of a URL, where other characters would change the address
    Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*\Z", max_length=200)],
    "a word of letters, digits and . _ : -",
    '"..."',
)
VARIABLE = Kind(  # only capitals: most API keys have both cases, so a key is refused here
    Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9_]*\Z", max_length=100)],
    "the name of an environment variable, in capitals",
    '"OPENAI_API_KEY"',
)
FILE = Kind(TEXT.type, "the name of a file", '"/run/secrets/openai"')
FOLDER = Kind(TEXT.type, "the name of a folder", '".orchestra"')
TIME = Kind(
    Annotated[float, Meta(gt=0, le=86_400)], "a number of seconds, over 0 and up to 86400", "30"
)
DELAY = Kind(
    Annotated[float, Meta(ge=0, le=86_400)], "a number of seconds, from 0 up to 86400", "10"
)
SECONDS = Kind(TIME.type | Literal["none"], f'{TIME.words}, or "none"', "30")
WAIT = Kind(DELAY.type | Literal["none"], f'{DELAY.words}, or "none"', "30")
TTL = Kind(
    Annotated[float, Meta(gt=0, le=366 * 86_400)],
    "a number of seconds, over 0 and up to a year",
    "3600",
)
SHARE = Kind(Annotated[float, Meta(gt=0, le=1)], "a share, over 0 and up to 1", "0.5")
BURST = Kind(  # the steady rate is the rest: with none, 100,000 tokens would take 69 days
    Annotated[float, Meta(gt=0, le=0.9)], "a share, over 0 and up to 0.9", "0.5"
)
COUNT = Kind(Annotated[int, Meta(gt=0, lt=2**53)], "a whole number over 0", "8")
BYTES = Kind(COUNT.type, COUNT.words, "4_194_304")
ENTRIES = Kind(Annotated[int, Meta(gt=0, le=1000)], "a whole number from 1 to 1000", "100")
PRICE = Kind(
    Annotated[float, Meta(ge=0, le=1_000_000)], "a number of dollars for a million tokens", "1.25"
)
SEARCH_PRICE = Kind(PRICE.type, "a number of dollars for a thousand search units", "2.0")
STATE_URL = Kind(
    Annotated[str, Meta(pattern=state_settings.STATE_URL, max_length=1000)],
    "memory:, sqlite:FILE, redis://HOST:PORT/DATABASE, rediss://... or redis+unix:///PATH?db=N, "
    "without a name and a password",
    '"redis://127.0.0.1:6379/0"',
)
POSTGRES_URL = Kind(
    Annotated[str, Meta(pattern=postgres_settings.POSTGRES_URL, max_length=1000)],
    "postgresql://HOST:PORT/DATABASE, with ?sslmode=verify-full or not, or "
    "postgresql:///DATABASE?host=/FOLDER, without a name and a password",
    '"postgresql://127.0.0.1:5432/orchestra"',
)
CONNECTIONS = Kind(Annotated[int, Meta(gt=0, le=1000)], "a whole number from 1 to 1000", "8")
DOLLARS = Kind(
    Annotated[str, Meta(pattern=r"^([0-9]{1,6}(\.[0-9]{1,18})?|none)\Z")]
    | Annotated[int, Meta(ge=0, lt=1_000_000)]
    | Annotated[float, Meta(ge=0, lt=1_000_000)],
    'a number of dollars, under a million, as a text or a number; or "none"',
    '"1.50"',
)
WHEN_STATE_FAILS = _one_of("open", "closed", example="closed")
UNKNOWN_PRICE = _one_of("flag", "refuse", example="flag")
FLAG = Kind(bool, "true or false", "true")
DIMENSIONS = Kind(Annotated[int, Meta(gt=0, le=65_536)], "a whole number over 0", "768")
HEADERS = Kind(
    dict[str, Any],
    "a table of HTTP headers, each a text of printable ASCII",
    '{ "X-Team" = "search" }',
)
SHARING = Kind(
    bool | dict[str, Any],
    "true, false, or a table with normalize, similarity and embedder",
    "{ normalize = true }",
)
EXTRAS = Kind(dict[str, Any], "a table", '{ service_tier = "flex" }')
NAMES = Kind(
    Annotated[list[_Text], Meta(min_length=1, max_length=ROUTE_MODELS_MAX)],
    f"a list of 1 to {ROUTE_MODELS_MAX} names of models",
    '["fast", "smart"]',
)
_Tag: TypeAlias = Annotated[str, Meta(max_length=64)]
TAGS = Kind(
    tuple[_Tag, Annotated[_Tag, Meta(min_length=1)]],
    "a list of two texts of up to 64 characters, of which the second is not empty",
    '["<think>", "</think>"]',
)
BY = _one_of("order", "weight", "cost", "latency", example="order")
WEIGHT = Kind(Annotated[float, Meta(gt=0, le=1_000_000)], "a number over 0 and up to 1000000", "2")
FALLBACK = Kind(
    bool | Annotated[list[_Text], Meta(min_length=1, max_length=100)],
    "true, false, or a list of names of errors",
    '["RateLimitError", "OverloadedError"]',
)


_PER_MINUTE = Kind(
    Annotated[int, Meta(gt=0, lt=2**53)] | Literal["none"], 'a whole number over 0, or "none"', "60"
)
_AT_ONCE = Kind(
    Annotated[int, Meta(gt=0, le=1000)] | Literal["none"],  # each call is a lease in the state
    'a whole number over 0 and up to 1000, or "none"',
    "8",
)
_PATIENCE = Kind(DELAY.type, DELAY.words, "30")


def _names(values: type, kind: Kind) -> Spec:
    return dict.fromkeys((field.name for field in attrs.fields(values)), kind)


CACHE: Spec = {
    "ttl_s": TTL,
    "answer_bytes_max": COUNT,
    "semantic": {"threshold": SHARE, "embedder": TEXT, "paraphrases": FLAG, "entries_max": ENTRIES},
}
POLICIES: Spec = {
    "limits": {
        **_names(CallLimits, COUNT),
        "burst_share": BURST,
        "wait_max_s": WAIT,
        "adaptive": FLAG,
        "shared": FLAG,
        "when_state_fails": WHEN_STATE_FAILS,
    },
    "breaker": {
        **_names(BreakerRule, TIME),
        "enabled": FLAG,
        "slow_s": SECONDS,
        "failure_rate": SHARE,
        "slow_rate": SHARE,
        "calls_min": COUNT,
        "probes": COUNT,
    },
    "prices": {**_names(Prices, PRICE), "search": SEARCH_PRICE},
    "capabilities": {
        **_names(Capabilities, FLAG),
        "context_tokens": COUNT,
        "output_tokens_max": COUNT,
    },
    "coalesce": SHARING,
    "cache": CACHE,
}
"""The policies of a model, also of an own class."""
REMOTE: Spec = {
    "base_url": URL,
    "key_env": VARIABLE,
    "key_file": FILE,
    "headers": HEADERS,
    "timeouts": _names(Timeouts, SECONDS),
    "extras": EXTRAS,
    "prompt_cache": FLAG,
    "reasoning_tags": TAGS,
    **POLICIES,
}
"""The keys of every model that is reached over HTTP."""
CLASS = Kind(
    Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z", max_length=300)],
    "a module, a colon and a class in it",
    '"stores:Shelf"',
)
CLASS_OF_MODEL = attrs.evolve(CLASS, example='"local:Llama"')
OWN_MODEL: Spec = {
    "class": CLASS_OF_MODEL,
    "options": Kind(dict[str, Any], "a table", '{ weights = "llama.gguf" }'),
    **POLICIES,
}
"""The keys of a model or embedder of an own class, with `class` in place of a provider."""
OWNER: Spec = {
    "requests_per_minute": _PER_MINUTE,
    "tokens_per_minute": _PER_MINUTE,
    "burst_share": BURST,
    "concurrency": _AT_ONCE,
    "runs": _PER_MINUTE,
    "wait_max_s": _PATIENCE,
    "waiting_max": COUNT,
    "when_state_fails": WHEN_STATE_FAILS,
}
"""The limits of a user or an organisation."""
OWNER_TABLES: Mapping[str, str] = {"users": "user", "organisations": "organisation"}
"""The tables of named owners in `[limits]` and `[budgets]`, each with the word for one owner."""

LOGIN: Spec = {
    "user": TEXT,
    "user_env": VARIABLE,
    "password_env": VARIABLE,
    "password_file": FILE,
}
"""The login for a state or database server."""
STORES: Spec = {
    "data": FOLDER,
    "url": POSTGRES_URL,
    **LOGIN,
    "ca_file": FILE,
    "connections_max": CONNECTIONS,
    "timeout_s": TIME,
    "index": _one_of(postgres_settings.HNSW, postgres_settings.NO_INDEX, example="hnsw"),
}
OWN_STORE: Spec = {
    "class": CLASS,
    "options": Kind(dict[str, Any], "a table", '{ url = "http://127.0.0.1:6333" }'),
}
"""The keys of a store of an own class: `[stores.NAME]`."""
COALESCE: Spec = {"normalize": FLAG, "similarity": SHARE, "paraphrases": FLAG, "embedder": TEXT}
"""How equal calls of a model or route are shared."""
ROUTE: Spec = {
    "models": NAMES,
    "by": BY,
    "sticky": FLAG,
    "fallback": FALLBACK,
    "coalesce": SHARING,
    "cache": CACHE,
}
"""The keys of every route; also `weights`, whose keys are the names of its models."""
STATE: Spec = {
    "url": STATE_URL,
    "timeout_s": TIME,
    "limit_bytes": COUNT,
    **LOGIN,
    "ca_file": FILE,
    "certificate_file": FILE,
    "certificate_key_file": FILE,
}
ALLOWANCE: Spec = {"day": DOLLARS, "month": DOLLARS, "when_state_fails": WHEN_STATE_FAILS}
BUDGETS: Spec = {
    "request": DOLLARS,
    "unknown_price": UNKNOWN_PRICE,
    "when_state_fails": WHEN_STATE_FAILS,
    "user": ALLOWANCE,
    "organisation": ALLOWANCE,
}
"""Also `users` and `organisations`, whose keys are names."""
ORIGINS = Kind(
    Annotated[
        list[Annotated[str, Meta(pattern=r"^(\*|https?://[^\s/?#@]+)\Z", max_length=300)]],
        Meta(min_length=1, max_length=100),
    ],
    'a list of origins, without a path, or ["*"] for all',
    '["https://app.example"]',
)
PASS_FIELDS = Kind(
    Annotated[
        list[Annotated[str, Meta(pattern=rf"^({'|'.join(GUARDED)})\Z")]],
        Meta(max_length=len(GUARDED)),
    ],
    f"a list of fields that are otherwise refused: {', '.join(GUARDED)}",
    '["web_search_options"]',
)
IMAGE_SCHEMES = Kind(
    Annotated[
        list[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9+.-]*\Z", max_length=20)]],
        Meta(min_length=1, max_length=20),
    ],
    "a list of schemes of URLs",
    '["https", "gs"]',
)
DISCONNECT: Spec = {
    "disconnect": _one_of("cancel", "continue", "linger", example="linger"),
    "linger_s": TIME,
}
"""What runs do when their clients leave: those of all pipelines, or of one."""
SERVER_SETTINGS: Spec = {
    "metrics": FLAG,
    "usage_log": FLAG,
    "store_answers": FLAG,
    "connections_max": COUNT,
    "connections_per_address_max": COUNT,
    "headers_max": COUNT,
    "target_limit_bytes": BYTES,
    "body_limit_bytes": BYTES,
    "body_timeout_s": TIME,
    "upload_limit_bytes": BYTES,
    "file_limit_bytes": BYTES,
    "parts_max": COUNT,
    "upload_timeout_s": TIME,
    "uploads_limit_bytes": BYTES,
    "runs_max": COUNT,
    "deadline_s": TIME,
    "socket_runs_max": COUNT,
    "socket_idle_s": TIME,
    "keep_alive_s": TIME,
    "heartbeat_s": TIME,
    "stall_s": TIME,
    "drain_s": TIME,
    "shutdown_delay_s": DELAY,
    "retire_s": TIME,
    "worker_timeout_s": DELAY,
}
"""The server's settings that the file may have, by their own names."""
SERVER: Spec = {
    **SERVER_SETTINGS,
    **DISCONNECT,
    "keys": _one_of("auto", "required", "none", example="required"),
    "pass_fields": PASS_FIELDS,
    "image_schemes": IMAGE_SCHEMES,
    "cors": {"origins": ORIGINS, "max_age_s": COUNT},
    "runs": {"kept_s": TTL, "kept_bytes": BYTES, "kept_total_bytes": BYTES, "idempotency_s": TTL},
}
"""Also `pipelines`, whose keys are names of pipelines."""
TABLES: Mapping[str, str] = {
    "models": "[models.NAME]",
    "embedders": "[embedders.NAME]",
    "routes": "[routes.NAME]",
    "limits": "[limits.user] or [limits.organisation]",
    "stores": "[stores]",
    "state": "[state]",
    "budgets": "[budgets]",
    "server": "[server]",
}
"""The tables of the file, and the header of each."""
