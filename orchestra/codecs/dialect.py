"""The interface of a provider's dialect: requests to bytes, bytes to events.

Pure and sans-I/O. A dialect has no host and no key. It gives a path relative to the provider's
base URL; `orchestra.providers` adds the credentials, sends the request, and passes back the
bytes that arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from orchestra.codecs.faults import error_in, http_error
from orchestra.errors import CapabilityError, MalformedStreamError, ModelError
from orchestra.eventclass import event
from orchestra.rankings import Ranking, RerankRequest
from orchestra.values import (
    ChatRequest,
    Embeddings,
    EmbedRequest,
    FilePart,
    ImagePart,
    ImageUrlPart,
    ModelEvent,
)


@event
class Call:
    """One HTTP POST, without host and credentials. `path` may have a query."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)


class Decoder(Protocol):
    """Decodes the body of one streamed answer, fed in pieces as it arrives.

    The events do not depend on how the bytes are cut.
    """

    @property
    def done(self) -> bool:
        """Whether no further bytes are needed: the answer or an error is complete."""

    def feed(self, data: bytes) -> list[ModelEvent]:
        """The events that these bytes complete. Never raises: `close` raises errors."""

    def close(self) -> list[ModelEvent]:
        """The remaining events, at the end of the body or when it is `done`.

        Raises:
            ModelError: an error that the provider sent inside the stream, by its class.
            MalformedStreamError: the bytes are not of this dialect.
            TruncatedStreamError: the answer has no stop reason.
        """


class Dialect(Protocol):
    """The requests and answers of one kind of provider.

    By default, it has neither embeddings nor reranking, and its errors are in any known format.
    """

    @property
    def texts_max(self) -> int:
        """The most texts in one embedding call."""
        return 1

    @property
    def texts_tokens_max(self) -> int | None:
        """The most estimated tokens of all texts in one embedding call; None without a limit."""
        return None

    @property
    def ranked_max(self) -> int | None:
        """The most texts in one rerank call, if each is scored by itself; None for all in one."""
        return None

    def ask(self, model: str, request: ChatRequest, *, stream: bool) -> Call:
        """The call that asks a model.

        Raises:
            CapabilityError: the dialect cannot express something in the request.
        """

    def decoder(self) -> Decoder:
        """A decoder for one streamed answer."""

    def decode(self, body: bytes) -> list[ModelEvent]:
        """The events of a complete, unstreamed answer; `Stopped` is the last.

        Raises:
            ModelError: an error in place of an answer, with status 200.
            MalformedStreamError: it is not an answer of this dialect.
        """

    def ask_embeddings(self, model: str, request: EmbedRequest) -> Call:
        """The call that embeds at most `texts_max` texts.

        Raises:
            CapabilityError: the dialect has no embeddings.
        """
        raise CapabilityError(
            f"{model} cannot embed {len(request.texts)} texts: its provider has no embeddings; "
            "ask a model of another provider"
        )

    def decode_embeddings(self, body: bytes) -> Embeddings:
        """The vectors in the answer to an embedding call.

        Raises:
            ModelError: an error in place of an answer, with status 200.
            MalformedStreamError: it is not an answer of this dialect.
        """
        raise MalformedStreamError(f"this provider has no embeddings, but sent {body[:200]!r}")

    def ask_ranking(self, model: str, request: RerankRequest) -> Call:
        """The call that puts texts in order.

        Raises:
            CapabilityError: the dialect has no reranking.
        """
        raise CapabilityError(
            f"{model} cannot rerank {len(request.texts)} texts: its provider has no reranking; "
            "ask a rerank model of another provider, such as `cohere` or `openai-compatible`"
        )

    def decode_ranking(self, body: bytes) -> Ranking:
        """The results in the answer to a rerank call, not yet compared with the request.

        Raises:
            ModelError: an error in place of an answer, with status 200.
            MalformedStreamError: it is not an answer of this dialect.
        """
        raise MalformedStreamError(f"this provider has no reranking, but sent {body[:200]!r}")

    def error(
        self, status: int, headers: Mapping[str, str], body: bytes, now_s: float
    ) -> ModelError:
        """The error for an answer with this HTTP status, 400 or more.

        `headers` have lower-case names; `now_s` is seconds since 1970, for a Retry-After
        that is a date.
        """
        return http_error(status, headers, body, now_s)


def refuse(request: ChatRequest, whom: str, *fields: str) -> None:
    """Refuse a request that sets one of these fields, which the provider `whom` does not have.

    A reasoning effort is accepted if it is only a wish (`effort_if_able`). `parallel_tool_calls` is
    accepted if it has no effect: it is true, or no tools may be called.

    Raises:
        CapabilityError: one of the fields is set.
    """
    calls = request.tools and request.tool_choice != "none"
    for field in fields:
        value = getattr(request, field)
        unset = value is None or value in ((), "none")
        wished = field == "reasoning_effort" and request.effort_if_able
        needless = field == "parallel_tool_calls" and (value or not calls)
        if not (unset or wished or needless):
            raise no_field(field, value, whom)


def refuse_system_files(request: ChatRequest, whom: str) -> None:
    """Refuse images and files in system messages, which the provider `whom` takes as text only.

    Raises:
        CapabilityError: a system message has one.
    """
    for message in request.messages:
        if message.role == "system" and not isinstance(message.content, str):
            for part in message.content:
                if isinstance(part, ImagePart | ImageUrlPart | FilePart):
                    raise CapabilityError(
                        f"a system message has a part {type(part).__name__}, and {whom} takes only "
                        "text there: put images and files into a user's message"
                    )


def no_field(field: str, value: object, whom: str) -> CapabilityError:
    """The error for a field of a request that cannot be sent to a provider."""
    return CapabilityError(
        f"{field}={value!r} cannot be sent to {whom}, which has no field for it: leave it out, or "
        "ask another provider; a provider's own fields can be sent in a pipeline's `extras`"
    )


def not_answered(body: bytes, what: str) -> ModelError:
    """The error for a body without an answer: the provider's error in its place, else `what`."""
    return error_in(body) or MalformedStreamError(f"{what}: {body[:200]!r}")
