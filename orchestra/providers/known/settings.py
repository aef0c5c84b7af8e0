"""Settings of models, embedders and routes: plain values, checked before these are made.

They come from the configuration, and `orchestra.providers.endpoints` makes endpoints from them.
They contain no keys, only the places of keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import attrs

from orchestra.errors import ModelError
from orchestra.policies.health.breaker import BreakerRule
from orchestra.policies.limits.limit import CallLimits
from orchestra.policies.routing import FALLBACK, By, ByOrder
from orchestra.protocols import Timeouts
from orchestra.values import Capabilities, Json

if TYPE_CHECKING:
    from orchestra.policies.caching.cache import CacheRule

NOTHING: Mapping[str, str] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Prices:
    """Dollars for a million tokens; None is unknown, which does not mean free."""

    input: float | None = None
    output: float | None = None
    cached_input: float | None = None
    cache_write_input: float | None = None
    reasoning: float | None = None


@attrs.frozen(kw_only=True)
class CoalesceSettings:
    """Settings of coalescing: equal concurrent calls share one (`policies.flights.coalesce`).

    `embedder` is the name of the embedder for similar questions, if these share as well.
    """

    normalize: bool = False
    similarity: float | None = None
    paraphrases: bool = False
    embedder: str = "default"


@attrs.frozen(kw_only=True)
class OwnClass:
    """A class of the project, for one of our protocols: `module:Class`, called with `options`."""

    seam: Literal["store", "model", "embedder"]
    target: str
    options: Json = attrs.field(factory=dict)

    @property
    def identity(self) -> str:
        """A text that is equal for classes and options with the same results."""
        return json.dumps([self.target, self.options], default=repr, sort_keys=True)


@attrs.frozen(kw_only=True)
class ModelSettings:
    """One model of a deployment.

    `name` is its name in pipelines, `model` its name at the provider. `options` are those that only
    this provider has (`region`, `deployment`). `capabilities` override what we know. `extras` are
    added to the body of each request; with `prompt_cache`, each request has marks for the
    provider's prompt cache. `breaker`, `cache` and `coalesce` are the settings of these policies;
    None is off. `origin` is the place of these settings, for people.

    With `own`, it is a class of the project: `provider` is then the catalog's entry for classes,
    and `model` is the class.
    """

    name: str
    provider: str
    model: str = ""
    base_url: str | None = None
    options: Mapping[str, str] = NOTHING
    key_env: str | None = None
    key_file: Path | None = None
    timeouts: Timeouts = Timeouts()
    limits: CallLimits = CallLimits()
    breaker: BreakerRule | None = BreakerRule()
    prices: Prices = Prices()
    capabilities: Capabilities = Capabilities()
    headers: Mapping[str, str] = attrs.field(default=NOTHING, repr=False)
    extras: Json = attrs.field(factory=dict)
    prompt_cache: bool = False
    coalesce: CoalesceSettings | None = None
    cache: CacheRule | None = None
    own: OwnClass | None = None
    origin: str = ""


@attrs.frozen(kw_only=True)
class EmbedderSettings:
    """One embedder of a deployment: a model for embeddings, and their dimensions.

    `dimensions` is None for the model's default.
    """

    name: str
    model: ModelSettings
    dimensions: int | None = None
    origin: str = ""


@attrs.frozen(kw_only=True)
class RouteSettings:
    """One route of a deployment: the names of its models, and how it chooses one.

    Models without a weight in `weights` have 1. After an error in `falls_back_on` the next model is
    asked; if it is empty, only the first is asked. `cache` is as in `ModelSettings`.
    """

    name: str
    models: Mapping[str, ModelSettings]
    by: By = attrs.field(factory=ByOrder)
    weights: Mapping[str, float] = MappingProxyType({})
    falls_back_on: tuple[type[ModelError], ...] = FALLBACK
    coalesce: CoalesceSettings | None = None
    cache: CacheRule | None = None
    origin: str = ""
