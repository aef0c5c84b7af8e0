"""Every seam of orchestra in one file: what steps know of the world outside.

Steps are written against these protocols and against nothing else, so that a
three-line fake tests them. No method here is an async generator: what arrives
over time is received in batches, so nothing stays suspended when a reader goes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Generic, Literal, Protocol, TypeAlias, TypeVar, cast

import attrs
import msgspec

from orchestra.accounts import Caller, Usage
from orchestra.answers import Answer, Completion
from orchestra.errors import CapabilityError
from orchestra.records import Encoding, Revision
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

C_co = TypeVar("C_co", covariant=True)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
D = TypeVar("D")

DIGEST = "digest"
"""The metadata key under which ingestion keeps what a source's content was."""


class Stream(Protocol[C_co]):
    """Chunks that are still arriving: what a stream edge gives to the step that reads it.

    Annotate a parameter with `Stream[C]` to read chunks while their producer runs; iterate
    with `async for chunk in chunks`, or take what is ready together with `receive`. A step
    that leaves early tells its producer to stop.
    """

    def __aiter__(self) -> AsyncIterator[C_co]:
        """The chunks one by one, until the producer's last."""

    async def __anext__(self) -> C_co:
        """The next chunk, waiting for it. Raises StopAsyncIteration after the last."""

    async def receive(self) -> tuple[C_co, ...]:
        """All chunks that are ready, waiting for one; empty after the last."""


class ModelReply(Protocol):
    """An answer that is arriving."""

    async def receive(self) -> tuple[ModelEvent, ...]:
        """What has arrived since the last call, waiting for something; empty at the end.

        Raises:
            ModelError: the answer failed, or was cut; never returned as a short answer.
        """


class Model(Protocol):
    """Something that answers. One that inherits from this has to write `stream` only."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do, as far as is known."""
        return Capabilities()

    @abstractmethod
    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Ask; leaving the context stops the answer, wherever it is.

        Raises:
            ModelError: on entry or on receive.
        """

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask, and wait for the whole answer. Cancelling it stops the answer.

        Raises:
            ModelError: it failed, or was cut.
        """
        answer = Answer()
        async with self.stream(request) as reply:
            while batch := await reply.receive():
                for event in batch:
                    answer.add(event)
        return answer.completion()

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each text, in order, as the model gives them: of any length.

        Raises:
            CapabilityError: it makes no vectors.
            ModelError: it failed.
        """
        raise CapabilityError(
            f"{type(self).__name__} cannot embed {len(request.texts)} texts: it makes no vectors; "
            "bind a model that does"
        )


class Embedder(Protocol):
    """Turns texts into vectors. It may have a text `identity`: of another, they are others."""

    @property
    def dimensions(self) -> int:
        """How many numbers each of its vectors has."""

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        """One vector for each text, in order; unit length, so that a dot product is a cosine."""


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long a provider may take; None is no limit. `code` of the error names the bound."""

    connect_s: float | None = 10.0
    """To a connection, TLS included."""
    first_byte_s: float | None = 60.0
    """From the request to the first byte of the answer's head."""
    idle_s: float | None = 60.0
    """From one piece of the answer to the next."""
    total_s: float | None = 600.0
    """From the request to the last byte."""


@attrs.frozen
class HttpRequest:
    """What goes over the wire. Headers may hold a key: they are never shown."""

    url: str
    body: bytes = attrs.field(default=b"", repr=False)
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    method: str = "POST"
    timeouts: Timeouts = Timeouts()


class HttpReply(Protocol):
    """The answer to an `HttpRequest`: its head is here, its body is arriving."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name; of one that came twice, both, with a comma between."""

    async def receive(self) -> bytes:
        """All of the body that is here, waiting for something; empty after the last byte.

        Raises:
            ModelTimeoutError: `idle_s` or `total_s` passed.
            ModelConnectionError: the connection broke before the body's end.
            MalformedStreamError: it is not HTTP.
        """

    def forget_headers(self) -> None:
        """Keep no headers any more: nobody will ask for them, however long the body is read."""
        return


class Transport(Protocol):
    """How a provider is reached."""

    def send(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpReply]:
        """Send a request; entered when the answer's head is here, whatever its status.

        Leaving the context before the body's end closes the connection at once, so that the
        provider stops; after it, the connection is kept for the next.

        Raises:
            ModelTimeoutError: `connect_s`, `first_byte_s` or `total_s` passed.
            ModelConnectionError: no connection, or it broke before the head.
            MalformedStreamError: it is not HTTP.
        """


class VectorStore(Protocol):
    """One collection of passages that can be searched by meaning.

    `where` keeps the passages whose metadata equals every given key; `source` is their source.
    """

    async def search(
        self, vector: Vector, *, top: int, where: Mapping[str, Scalar] | None = None
    ) -> list[Passage]:
        """The `top` nearest passages, nearest first, each with its score."""

    async def upsert(self, passages: Sequence[Passage], vectors: Sequence[Vector]) -> None:
        """Insert, or replace those with the same id; all of them or none."""

    async def delete(self, *, where: Mapping[str, Scalar]) -> int:
        """Remove the passages that match, and tell how many there were."""

    async def count(self) -> int:
        """How many passages the collection holds."""

    async def digests(self) -> Mapping[str, str]:
        """What was ingested: each source, and the digest of what its passages were cut from.

        Read from the key `DIGEST` of their metadata; "" where the passages of one source
        differ in it (a replacement was cut short). Sources without a digest are left out.
        """


class Origin(Protocol):
    """Which step of which run it is, and for whom."""

    @property
    def run_id(self) -> str:
        """The id of the run."""

    @property
    def step(self) -> str:
        """The path of the step in its pipeline, as events tell it."""

    @property
    def caller(self) -> Caller:
        """Who has started the run."""


class Context(Origin, Protocol):
    """What a step may ask of the run it is part of.

    A step that wants it declares a keyword `context: Context = injected`; the
    engine fills it in. Names are those of the deployment's bindings.
    """

    def model(self, name: str) -> Model:
        """The model of this name. Raises BindingError."""

    def embedder(self, name: str) -> Embedder:
        """The embedder of this name. Raises BindingError."""

    def store(self, name: str) -> VectorStore:
        """The store of this name. Raises BindingError."""

    def used(self, usage: Usage | None) -> None:
        """Report what a call consumed, as its `Completion` tells it: for the step's own account."""

    async def kept(self, opened: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """A client or pool that `opened` gives: opened once, closed behind the engine's last run.

        Raises:
            DefinitionError: `opened()` is no async context manager.
            LimitExceededError: a thousand others are open; `opened` tells them apart.
            Exception: whatever it raises while it opens; the next who asks opens it anew.
        """

    def tell(self, what: str, data: object = None) -> None:
        """Tell whoever follows the run, by an event `step.told`: how far a long work is, and such.

        At once, and never waits; in a thread, too. `data` is written as a chunk of output is, as
        it is now. It is no part of the result, and once the run has ended nobody is told.

        Raises:
            LimitExceededError: it is longer than 16 KiB as JSON (`limit` is `told_bytes`).
        """


class Entry(msgspec.Struct, frozen=True):
    """What a state keeps under a key, and for how many seconds from now; None is for ever."""

    data: bytes
    ttl_s: float | None = None


class Change(msgspec.Struct, Generic[T_co], frozen=True):
    """What becomes of some keys, and what whoever has decided it wanted to know.

    A key that is not in `entries` stays as it is; one that is None is forgotten.
    """

    result: T_co
    entries: Mapping[str, Entry | None] = {}


WhenStateFails: TypeAlias = Literal["open", "closed"]
"""What a policy does where its state is gone or too slow: go on without it, or refuse.

"open" is for what only saves work (a cache, a limit of one's own), "closed" for what must not be
passed by (a budget). A policy says which it is, and its configuration may say otherwise.
"""


class State(Protocol):
    """What policies remember: in this process, for all of a host, or for all hosts.

    Keys are text without whitespace; what policy a key belongs to is before its first colon.
    """

    at_once: bool = False
    """Whether it never waits and never fails, so that nobody need bound it in time."""

    async def change(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[bytes | None], float], Change[T]],
    ) -> T:
        """Change what is kept under some keys, all at once, as if nobody else did anything.

        `decide` is given what is there now, in the order of the keys, and the time of this state
        in seconds since 1970. It must be pure: where others come between, it is asked again.
        Cancelled, the change has happened or has not.

        Raises:
            StateError: the store is gone, or too slow. Then, too, it has happened or has not.
        """

    async def revise(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[D | None], float], Revision[T, D]],
        encoding: Encoding[D],
    ) -> T:
        """As `change`, of records that are kept as `encoding` writes them. Raises StateError.

        They are `decide`'s own: it may change one and give it back. One that it has changed and
        does not give back may or may not be kept as it is then. A state in memory writes none.
        """

        def decided(kept: Sequence[bytes | None], now_s: float) -> Change[T]:
            found = decide([None if each is None else encoding.read(each) for each in kept], now_s)
            entries = {
                key: None if each is None else Entry(encoding.write(each[0]), each[1])
                for key, each in found.records.items()
            }
            return Change(found.result, entries)

        return await self.change(keys, decided)

    async def look(
        self,
        keys: Sequence[str],
        see: Callable[[Sequence[D | None], float], T],
        encoding: Encoding[D],
    ) -> T:
        """What is seen in records, of which none is changed. As of `revise`."""
        return await self.revise(keys, lambda kept, now_s: Revision(see(kept, now_s)), encoding)

    async def recall(self, key: str) -> bytes | None:
        """What was remembered under a key, or None; it is then the last used. Raises StateError."""

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        """Keep this so long, where there is room: of it all, the last used. Raises StateError."""


class Bindings(Protocol):
    """What the names in pipelines stand for in this deployment."""

    def names(self, seam: str) -> Sequence[str]:
        """The names bound for `model`, `embedder` or `store`, for checks and messages."""

    def model(self, name: str) -> Model:
        """The model of this name. Raises BindingError."""

    def embedder(self, name: str) -> Embedder:
        """The embedder of this name. Raises BindingError."""

    def store(self, name: str) -> VectorStore:
        """The store of this name. Raises BindingError."""


class _Injected:
    """What a step's `context` parameter holds until the engine fills it in."""

    def __repr__(self) -> str:
        return "injected"


injected: Context = cast("Context", _Injected())


@attrs.frozen
class Names:
    """Marks a `str` parameter as the name of something bound: `Annotated[str, Names("model")]`."""

    seam: str


ModelName: TypeAlias = Annotated[str, Names("model")]
EmbedderName: TypeAlias = Annotated[str, Names("embedder")]
StoreName: TypeAlias = Annotated[str, Names("store")]
