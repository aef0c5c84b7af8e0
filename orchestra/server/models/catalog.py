"""What clients may ask as a model: each model, route and embedder, and chat-shaped pipelines.

Who may not ask for a name is told that there is none: that it exists is nobody else's business.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from orchestra.server.runs.chat_shapes import ChatShape, shape_of

if TYPE_CHECKING:
    from orchestra.access.principal import Scopes
    from orchestra.graph.pipelines import Pipeline
    from orchestra.protocols import Bindings

log = logging.getLogger("orchestra.server")


@attrs.frozen
class Bare:
    """A name of this deployment: of a model or route, of an embedder, or of both."""

    name: str
    speaks: bool
    embeds: bool
    """Whether it is an embedder; a model may make vectors, too."""

    @property
    def kind(self) -> str:
        """What it is, in a word."""
        return "model" if self.speaks else "embedder"


@attrs.frozen
class Spoken:
    """A pipeline that can be spoken with."""

    name: str
    shape: ChatShape
    kind = "pipeline"


Offer: TypeAlias = Bare | Spoken


class Catalog:
    """What is offered under which name, and to whom."""

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
                    "pipeline %r is not offered as a model: a %s has that name, and clients that "
                    "ask for it get that; rename one of them",
                    name,
                    self._offers[name].kind,
                )
            else:
                self._offers[name] = Spoken(name, shape)

    def seen_by(self, scopes: Scopes) -> list[Offer]:
        """All that may be asked with these scopes."""
        return [each for each in self._offers.values() if _may(scopes, each)]

    def find(self, name: str, scopes: Scopes) -> Offer | None:
        """What this name stands for; None where there is nothing, or not for these scopes."""
        found = self._offers.get(name)
        return found if found is not None and _may(scopes, found) else None

    def unlike_a_chat(self, name: str, scopes: Scopes) -> Pipeline[..., Any] | None:
        """The pipeline of this name, if it is offered to others only; None as of `find`."""
        found = self._unlike_a_chat.get(name)
        return found if found is not None and scopes.may_run(name) else None


def _may(scopes: Scopes, offer: Offer) -> bool:
    if isinstance(offer, Spoken):
        return scopes.may_run(offer.name)
    return scopes.may_ask(offer.name)
