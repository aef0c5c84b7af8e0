"""What a deployment says of its models: plain values, checked before they are made.

The configuration fills them in, and `orchestra.providers.known.catalog` makes endpoints of them.
No key is among them, only where it is to be found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import attrs

from orchestra.errors import ModelError
from orchestra.policies.breaker import BreakerRule
from orchestra.policies.limits.limit import CallLimits
from orchestra.policies.routing import FALLBACK, By, ByOrder
from orchestra.protocols import Timeouts
from orchestra.values import Capabilities, Json

if TYPE_CHECKING:
    from orchestra.policies.caching.cache import CacheRule

NOTHING: Mapping[str, str] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Prices:
    """Dollars for a million tokens; None is not known, which is never the same as free."""

    input: float | None = None
    output: float | None = None
    cached_input: float | None = None
    cache_write_input: float | None = None
    reasoning: float | None = None


@attrs.frozen(kw_only=True)
class CoalesceSettings:
    """How equal calls under way share one: `orchestra.policies.flights.coalesce`.

    `embedder` is the name of the one that questions are compared with, where they are.
    """

    normalize: bool = False
    similarity: float | None = None
    paraphrases: bool = False
    embedder: str = "default"


@attrs.frozen(kw_only=True)
class OwnClass:
    """A class of the project's own, for a seam: `module:Class`, which is called with `options`."""

    seam: Literal["store", "model", "embedder"]
    target: str
    options: Json = attrs.field(factory=dict)

    @property
    def identity(self) -> str:
        """In one text: where two are the same, so is what they make."""
        return json.dumps([self.target, self.options], default=repr, sort_keys=True)


@attrs.frozen(kw_only=True)
class ModelSettings:
    """One model of a deployment.

    `name` is what pipelines call it, `model` what its provider does. `options` are those that
    only this provider has (`region`, `deployment`). `capabilities` holds what the deployment
    says, which counts for more than what we know. `extras` go into the body of each request, and
    with `prompt_cache` the provider is told in each to keep what it has read.
    `breaker` is when it is left alone; None is never. `cache` is how its answers are kept, and
    `coalesce` how its calls share one; None is not at all. `origin` is where all of this was
    said, for a person.
    With `own`, it is of a class of the project's own: `provider` is then that of the catalog which
    stands for such, and `model` is the class.
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
    """One embedder of a deployment: a model that makes vectors, and how long they are.

    `dimensions` is None where it is what the model gives by itself.
    """

    name: str
    model: ModelSettings
    dimensions: int | None = None
    origin: str = ""


@attrs.frozen(kw_only=True)
class RouteSettings:
    """One route of a deployment: the models that it chooses from, by name, and how it does.

    `weights` are of some or all of them, and 1 for the others. After an error that is one of
    `falls_back_on` the next model is asked; where there is none, nobody after the first. `cache`
    is as of a model.
    """

    name: str
    models: Mapping[str, ModelSettings]
    by: By = attrs.field(factory=ByOrder)
    weights: Mapping[str, float] = MappingProxyType({})
    falls_back_on: tuple[type[ModelError], ...] = FALLBACK
    coalesce: CoalesceSettings | None = None
    cache: CacheRule | None = None
    origin: str = ""
