"""The protocols between orchestra's parts, in one file: all that steps know of the outside world.

Steps depend only on these protocols, so that a three-line fake is enough to test them. No method
is an async generator: what arrives over time is received in batches, so that nothing stays
suspended when a reader leaves.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import (
    Annotated,
    Literal,
    NoReturn,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    runtime_checkable,
)

import attrs

from orchestra.accounts import Caller, Usage
from orchestra.answers import Answer, Completion
from orchestra.errors import CapabilityError, StoreError
from orchestra.eventclass import event
from orchestra.rankings import Ranking, RerankRequest
from orchestra.records import Change as Change  # noqa: PLC0414 - re-exported
from orchestra.records import Entry as Entry  # noqa: PLC0414 - re-exported
from orchestra.records import State as State  # noqa: PLC0414 - re-exported
from orchestra.streams import RunsPipelines
from orchestra.streams import Stream as Stream  # noqa: PLC0414 - re-exported
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ModelEvent,
    Passage,
    Purpose,
    Scalar,
    Vector,
)

T = TypeVar("T")

DIGEST = "digest"
"""The metadata key under which ingestion stores the digest of a source's content."""


class ModelReply(Protocol):
    """An answer that is arriving."""

    async def receive(self) -> tuple[ModelEvent, ...]:
        """Return the events since the last call, waiting for at least one; empty at the end.

        Raises:
            ModelError: the answer failed, or was cut; a cut answer never ends normally.
        """


class Model(Protocol):
    """A model. A subclass has to define only `stream`."""

    @property
    def capabilities(self) -> Capabilities:
        """What the model can do, as far as is known."""
        return Capabilities()

    @abstractmethod
    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Send a request; leaving the context stops the answer, however far it has come.

        Raises:
            ModelError: the call failed, on entry or in `receive`.
        """

    async def complete(self, request: ChatRequest) -> Completion:
        """Send a request and wait for the whole answer. Cancelling it stops the answer.

        Raises:
            ModelError: the call failed, or the answer was cut.
        """
        answer = Answer()
        async with self.stream(request) as reply:
            while batch := await reply.receive():
                for event in batch:
                    answer.add(event)
        return answer.completion()

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Return one vector for each text, in order, as the model gives them: not normalised.

        Raises:
            CapabilityError: the model makes no vectors.
            ModelError: the call failed.
        """
        raise CapabilityError(
            f"{type(self).__name__} cannot embed {len(request.texts)} texts: it makes no vectors; "
            "use a model that does"
        )

    async def rerank(self, request: RerankRequest) -> Ranking:
        """Return the texts that are most relevant to the query, best first.

        Raises:
            ModelError: the call failed; or a CapabilityError: the model does not rerank.
        """
        asked = f"{type(self).__name__} cannot rerank {len(request.texts)} texts"
        raise CapabilityError(f"{asked}; use a rerank model, or `nearest` with an embedder")


class Embedder(Protocol):
    """Turns texts into vectors. If it has a string `identity`, that changes when its vectors do."""

    @property
    def dimensions(self) -> int:
        """The number of dimensions of each vector."""

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        """Return one unit vector per text, in order, so that a dot product is a cosine."""


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long a provider may take; None is no limit. The error's `code` names the limit."""

    connect_s: float | None = 10.0
    """To open the connection, TLS included."""
    first_byte_s: float | None = 60.0
    """From the request to the first byte of the response head."""
    idle_s: float | None = 60.0
    """From one part of the response to the next."""
    total_s: float | None = 600.0
    """From the request to the last byte of the response."""


@event
class HttpRequest:
    """A request to a provider. Its repr shows neither body nor headers, which may hold a key."""

    url: str
    body: bytes = attrs.field(default=b"", repr=False)
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    method: str = "POST"
    timeouts: Timeouts = Timeouts()


class HttpReply(Protocol):
    """The response to an `HttpRequest`: its head has arrived, its body is arriving."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers by lower-case name; repeated ones are joined by commas."""

    @property
    def ended(self) -> bool:
        """Whether `receive` is known to return the end next, without waiting."""
        return False

    async def receive(self) -> bytes:
        """Return the bytes of the body that have arrived, waiting for some; empty after the last.

        Raises:
            ModelTimeoutError: `idle_s` or `total_s` passed.
            ModelConnectionError: the connection broke before the end of the body.
            MalformedStreamError: the response is not valid HTTP.
        """

    def forget_headers(self) -> None:
        """Free the headers, which are no longer needed; the body may take hours."""
        return


class Transport(Protocol):
    """How a provider is reached."""

    def send(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpReply]:
        """Send a request; entering the context waits for the response head, whatever its status.

        Leaving the context before the end of the body closes the connection at once, so that
        the provider stops; after the end, the connection is kept alive for the next request. A
        cancellation before any byte was sent gets the note `UNSENT` of `orchestra.accounts`.

        Raises:
            ModelTimeoutError: `connect_s`, `first_byte_s` or `total_s` passed.
            ModelConnectionError: there was no connection, or it broke before the head.
            MalformedStreamError: the response is not valid HTTP.
        """


class VectorStore(Protocol):
    """One collection of passages that can be searched by meaning, and by keywords.

    `where` selects the passages whose metadata has all of these values; the key `source` is
    compared with `Passage.source`. Every method raises StoreError if it fails.
    """

    async def search(
        self, vector: Vector, *, top: int, where: Mapping[str, Scalar] | None = None
    ) -> list[Passage]:
        """Return the `top` nearest passages with their scores, nearest first, ties by id."""

    async def search_keywords(
        self, query: str, *, top: int, where: Mapping[str, Scalar] | None = None
    ) -> list[Passage]:
        """Return the `top` best passages with a word of the query, best first. May be left out.

        A higher score is better, and 0 is that of a passage without any of the words. A hybrid
        search only compares these scores with each other: they may be on any scale.
        """
        asked = f"search_keywords({query!r:.60}, top={top}, where={where!r:.60})"
        raise StoreError(f"{asked}: a {type(self).__name__} has no keyword search")

    async def upsert(self, passages: Sequence[Passage], vectors: Sequence[Vector]) -> None:
        """Insert passages, replacing those with the same id: all of them, or none on an error."""

    async def delete(self, *, where: Mapping[str, Scalar]) -> int:
        """Delete the matching passages, all if `where` is empty; return how many were deleted."""

    async def count(self) -> int:
        """Return the number of passages in the collection."""

    async def digests(self) -> Mapping[str, str]:
        """Return each ingested source with the digest of the content its passages were cut from.

        Taken from the metadata key `DIGEST`; "" if the passages of one source have different
        digests (a replacement was cut short). Sources without a digest are left out.
        """


class Origin(Protocol):
    """A step of a run, and the caller that the run is for."""

    @property
    def run_id(self) -> str:
        """The id of the run."""

    @property
    def step(self) -> str:
        """The path of the step in its pipeline, as in the events."""

    @property
    def caller(self) -> Caller:
        """The caller that the run is for."""


class Finds(Protocol):
    """Finds the models, embedders and stores of a deployment by their names."""

    def model(self, name: str) -> Model:
        """The model of this name. Raises BindingError."""

    def embedder(self, name: str) -> Embedder:
        """The embedder of this name. Raises BindingError."""

    def store(self, name: str) -> VectorStore:
        """The store of this name. Raises BindingError."""


class Context(Origin, RunsPipelines, Finds, Protocol):
    """A step's access to the run that it is part of.

    A step that needs it declares a keyword `context: Context = injected`; the
    engine fills it in. Names are those of the deployment's bindings.
    """

    @property
    def call_id(self) -> str | None:
        """In a tool, the first 100 characters of the id of the model's call; else None.

        It is that of the call's events. Some models use an id again in a later turn.
        """

    def used(self, usage: Usage | None) -> None:
        """Add the usage of a call (its `Completion.usage`) to the account of the step."""

    async def kept(self, opened: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the client or pool that `opened()` opens: once, and closed after the last run.

        The function `opened` itself is the key: calls with the same function share one object.

        Raises:
            DefinitionError: `opened()` is not an async context manager.
            LimitExceededError: a thousand others are open.
            Exception: what opening it raises; the next call tries again.
        """

    def tell(self, what: str, data: object = None) -> None:
        """Send an event `step.told` to the readers of the run, such as the progress of long work.

        Never waits, and may be called in a thread. `data` is serialised at once, like a chunk of
        output. It is not part of the result; after the end of the run, nothing is sent.

        Raises:
            LimitExceededError: it is longer than 16 KiB as JSON (`limit` is `told_bytes`).
        """


WhenStateFails: TypeAlias = Literal["open", "closed"]
"""What a policy does if its state is unreachable or too slow: go on ("open"), as a cache may, or
refuse the call ("closed"), as a budget must. Each policy has a default, which its configuration may
override."""


class Bindings(Finds, Protocol):
    """The objects that names in pipelines refer to in this deployment."""

    def names(self, seam: str) -> Sequence[str]:
        """The names bound for `model`, `embedder` or `store`, for checks and error messages."""


@runtime_checkable
class KnowsModels(Protocol):
    """`Bindings` that know what their models can do before these are made."""

    def capabilities(self, name: str) -> Capabilities:
        """What the model or route of this name can do, as far as is known. Raises BindingError."""


class _Injected:
    """The default of a step's `context` parameter, until the engine fills it in."""

    def __repr__(self) -> str:
        return "injected"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"context.{name}: no context was given; a step that your code calls gets none from the "
            "engine: pass yours: `.call(..., context=context)`"
        )


injected: Context = cast("Context", _Injected())


@attrs.frozen
class Names:
    """Marks a `str` parameter as the name of something bound: `Annotated[str, Names("model")]`.

    `ability` is what a model of this name has to be able to do, named as in `Capabilities`.
    """

    seam: str
    ability: str = ""


ModelName: TypeAlias = Annotated[str, Names("model")]
RerankerName: TypeAlias = Annotated[str, Names("model", "reranking")]
EmbedderName: TypeAlias = Annotated[str, Names("embedder")]
StoreName: TypeAlias = Annotated[str, Names("store")]
