"""What a provider's dialect has to know, and nothing else: requests to bytes, bytes to events.

Pure and sans-I/O. A dialect names no host and holds no key: it gives a path to be joined to
the provider's base URL, and `orchestra.providers` adds the credentials, sends it, and hands
back what arrives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs

from orchestra.answers import Completion
from orchestra.errors import CapabilityError, ModelError
from orchestra.values import ChatRequest, Embeddings, EmbedRequest, ModelEvent


@attrs.frozen
class Call:
    """One HTTP POST, without host and credentials. `path` may have a query."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)


class Decoder(Protocol):
    """The body of one streamed answer, fed as it arrives, cut anywhere.

    However the bytes are cut, the events are the same.
    """

    @property
    def done(self) -> bool:
        """Whether the last byte that matters has been fed, or an error: nobody need wait."""

    def feed(self, data: bytes) -> list[ModelEvent]:
        """The events that these bytes complete. Never raises: an error ends it, and waits."""

    def close(self) -> list[ModelEvent]:
        """What is left at the end of the body, or when it is done.

        Raises:
            ModelError: an error that the provider sent inside of the stream, by its class.
            MalformedStreamError: the bytes are not of this dialect.
            TruncatedStreamError: the answer never said why it stopped.
        """


class Dialect(Protocol):
    """How one kind of provider is asked, and how it answers."""

    @property
    def texts_max(self) -> int:
        """How many texts one embedding call may have."""

    @property
    def texts_tokens_max(self) -> int | None:
        """How many tokens, as estimated, those may have together; None where it has no bound."""

    def ask(self, model: str, request: ChatRequest, *, stream: bool) -> Call:
        """The call that asks a model.

        Raises:
            CapabilityError: the dialect has no words for something in the request.
        """

    def decoder(self) -> Decoder:
        """A decoder for one streamed answer."""

    def decode(self, body: bytes) -> list[ModelEvent]:
        """The events of a whole answer that was not streamed; `Stopped` is the last.

        Raises:
            ModelError: an error in place of an answer, though the status was 200.
            MalformedStreamError: it is not an answer of this dialect.
        """

    def ask_embeddings(self, model: str, request: EmbedRequest) -> Call:
        """The call that embeds at most `texts_max` texts.

        Raises:
            CapabilityError: the dialect has no embeddings.
        """

    def decode_embeddings(self, body: bytes) -> Embeddings:
        """The vectors of such a call.

        Raises:
            ModelError: as of `decode`.
        """

    def error(
        self, status: int, headers: Mapping[str, str], body: bytes, now_s: float
    ) -> ModelError:
        """What an answer with this status, 400 or more, says is wrong.

        `headers` are by lower-case name; `now_s` is seconds since 1970, for a Retry-After
        that is a date.
        """


def completion(dialect: Dialect, body: bytes) -> Completion:
    """A whole answer that was not streamed. Raises as `Dialect.decode` does."""
    return Completion.of(dialect.decode(body))


def refuse_logprobs(request: ChatRequest, whom: str) -> None:
    """Nothing, unless the request wants to be told how likely tokens were.

    Raises:
        CapabilityError: it does.
    """
    if request.logprobs is not None:
        raise CapabilityError(
            f"logprobs={request.logprobs} cannot be asked of {whom} here; leave it out, or ask a "
            "server that speaks OpenAI's dialect"
        )
