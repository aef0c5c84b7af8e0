"""Settings of models, embedders and routes: plain values, which the configuration has checked.

They come from the configuration, and `orchestra.providers.endpoints` makes endpoints from them.
They contain no keys; they only say where the keys are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import attrs

from orchestra.codecs.reasoning_tags import ReasoningTags
from orchestra.errors import ModelError
from orchestra.policies.health.breaker import BreakerRule
from orchestra.policies.limits.limit import CallLimits
from orchestra.policies.routing import FALLBACK, By, ByOrder
from orchestra.protocols import Timeouts
from orchestra.values import Capabilities, Json

if TYPE_CHECKING:
    from orchestra.policies.caching.cache import CacheRule
    from orchestra.policies.flights.coalesce import CoalesceRule

NOTHING: Mapping[str, str] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Prices:
    """Dollars for a million tokens; None means unknown, not free.

    `search` is for a thousand search units, as which some rerank models are billed.
    """

    input: float | None = None
    output: float | None = None
    cached_input: float | None = None
    cache_write_input: float | None = None
    reasoning: float | None = None
    search: float | None = None


@attrs.frozen(kw_only=True)
class OwnClass:
    """A class of the project that implements one of our protocols.

    `target` is `module:Class`; it is called with `options`. `seam` tells the protocol.
    """

    seam: Literal["store", "model", "embedder"]
    target: str
    options: Json = attrs.field(factory=dict)

    @property
    def identity(self) -> str:
        """A text that is equal for equal classes with equal options."""
        return json.dumps([self.target, self.options], default=repr, sort_keys=True)


@attrs.frozen(kw_only=True)
class ModelSettings:
    """One model of a deployment.

    `name` is its name in pipelines, `model` its name at the provider. `options` are keys that only
    this provider has (`region`, `deployment`). `capabilities` override the known ones. `extras` are
    added to the body of each request; with `prompt_cache`, marks for the provider's prompt cache
    are added to each request; `reasoning_tags` are those in the text of answers. `breaker`, `cache`
    and `coalesce` are the settings of these policies; None turns one off. `origin` tells people
    where these settings are.

    With `own`, the model is a class of the project: `provider` is then the catalog's entry for
    classes, and `model` is the class.
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
    reasoning_tags: ReasoningTags | None = None
    coalesce: CoalesceRule | None = None
    cache: CacheRule | None = None
    own: OwnClass | None = None
    origin: str = ""


@attrs.frozen(kw_only=True)
class EmbedderSettings:
    """One embedder of a deployment: a model, and the dimensions of its vectors.

    `dimensions` is None for the model's default. If the embedder names a `route`, `model` is the
    route's first model: the others make the same vectors.
    """

    name: str
    model: ModelSettings
    dimensions: int | None = None
    origin: str = ""
    route: RouteSettings | None = None


@attrs.frozen(kw_only=True)
class RouteSettings:
    """One route of a deployment: its models by name, and how it chooses among them.

    Models that are not in `weights` have the weight 1. After an error of a class in
    `falls_back_on`, the next model is asked; if that is empty, only the first model is asked.
    `coalesce` and `cache` are as in `ModelSettings`.
    """

    name: str
    models: Mapping[str, ModelSettings]
    by: By = attrs.field(factory=ByOrder)
    weights: Mapping[str, float] = MappingProxyType({})
    falls_back_on: tuple[type[ModelError], ...] = FALLBACK
    coalesce: CoalesceRule | None = None
    cache: CacheRule | None = None
    origin: str = ""
