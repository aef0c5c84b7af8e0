"""The names that clients may use as models: models, routes, embedders, and chat-shaped pipelines.

A caller without access to a name gets the same error as for an unknown name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from orchestra.server.inputs.chat_shapes import ChatShape, shape_of

if TYPE_CHECKING:
    from orchestra.access.principal import Scopes
    from orchestra.graph.pipelines import Pipeline
    from orchestra.protocols import Bindings

log = logging.getLogger("orchestra.server")


@attrs.frozen
class Bare:
    """The name of a model or route, of an embedder, or of both."""

    name: str
    speaks: bool
    embeds: bool
    """Whether it is an embedder; a model may have embeddings as well."""

    @property
    def kind(self) -> str:
        """Its kind, for error texts."""
        return "model" if self.speaks else "embedder"


@attrs.frozen
class Spoken:
    """A pipeline that can be used like a model."""

    name: str
    shape: ChatShape
    kind = "pipeline"


Offer: TypeAlias = Bare | Spoken


class Catalog:
    """The offered names, and which callers may use them."""

    def __init__(self, bindings: Bindings, pipelines: Mapping[str, Pipeline[..., Any]]) -> None:
        speaking, embedding = bindings.names("model"), bindings.names("embedder")
        self._unlike_a_chat: dict[str, Pipeline[..., Any]] = {}
        self._offers: dict[str, Offer] = {
            name: Bare(name, name in speaking, name in embedding)
            for name in dict.fromkeys((*speaking, *embedding))
        }
        for name, pipeline in pipelines.items():
            shape = shape_of(pipeline)
            if shape is None:
                self._unlike_a_chat[name] = pipeline
                continue
            if name in self._offers:
                log.warning(
                    "pipeline %r is not offered as a model: a %s has that name, and requests for "
                    "it are sent there; rename one of them",
                    name,
                    self._offers[name].kind,
                )
            else:
                self._offers[name] = Spoken(name, shape)

    def seen_by(self, scopes: Scopes) -> list[Offer]:
        """All names that may be used with these scopes."""
        return [each for each in self._offers.values() if _may(scopes, each)]

    def find(self, name: str, scopes: Scopes) -> Offer | None:
        """The offer with this name; None if there is none, or not for these scopes."""
        found = self._offers.get(name)
        return found if found is not None and _may(scopes, found) else None

    def unlike_a_chat(self, name: str, scopes: Scopes) -> Pipeline[..., Any] | None:
        """The pipeline with this name that does not answer chats; None as in `find`."""
        found = self._unlike_a_chat.get(name)
        return found if found is not None and scopes.may_run(name) else None


def _may(scopes: Scopes, offer: Offer) -> bool:
    if isinstance(offer, Spoken):
        return scopes.may_run(offer.name)
    return scopes.may_ask(offer.name)
