"""Every seam of orchestra in one file: what steps know of the world outside.

Steps are written against these protocols alone, so that a three-line fake is enough to test
them. No method is an async generator: what arrives over time is received in batches, so that
nothing stays suspended when a reader leaves.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Generic, Literal, Protocol, TypeAlias, TypeVar, cast

import attrs
import msgspec

from orchestra.accounts import Caller, Usage
from orchestra.answers import Answer, Completion
from orchestra.errors import CapabilityError
from orchestra.records import Encoding, Revision
from orchestra.streams import RunsPipelines
from orchestra.streams import Stream as Stream  # noqa: PLC0414 - one of the seams
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
T_co = TypeVar("T_co", covariant=True)
D = TypeVar("D")

DIGEST = "digest"
"""The metadata key under which ingestion keeps the digest of a source's content."""


class ModelReply(Protocol):
    """An answer that is arriving."""

    async def receive(self) -> tuple[ModelEvent, ...]:
        """What has arrived since the last call, waiting for something; empty at the end.

        Raises:
            ModelError: the answer failed, or was cut; never returned as a short answer.
        """


class Model(Protocol):
    """A model. A class that inherits from this has to define `stream` only."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do, as far as is known."""
        return Capabilities()

    @abstractmethod
    def stream(self, request: ChatRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Send a request; leaving the context stops the answer, however far it has come.

        Raises:
            ModelError: on entry or on receive.
        """

    async def complete(self, request: ChatRequest) -> Completion:
        """Send a request and wait for the whole answer. Cancelling it stops the answer.

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
        """One vector for each text, in order, as the model gives them: not normalised.

        Raises:
            CapabilityError: it makes no vectors.
            ModelError: it failed.
        """
        raise CapabilityError(
            f"{type(self).__name__} cannot embed {len(request.texts)} texts: it makes no vectors; "
            "ask a model that does"
        )


class Embedder(Protocol):
    """Turns texts into vectors. It may have a string `identity`: it changes when they do."""

    @property
    def dimensions(self) -> int:
        """How many numbers each of its vectors has."""

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        """One vector for each text, in order; unit length, so that a dot product is a cosine."""


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long a provider may take; None is no limit. The error's `code` names the bound."""

    connect_s: float | None = 10.0
    """Until the connection is open, TLS included."""
    first_byte_s: float | None = 60.0
    """From the request to the first byte of the answer's head."""
    idle_s: float | None = 60.0
    """From one piece of the answer to the next."""
    total_s: float | None = 600.0
    """From the request to the last byte."""


@attrs.frozen
class HttpRequest:
    """What is sent. Its repr shows neither body nor headers, which may hold a key."""

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
        """The headers by lower-case name; repeated ones are joined by commas."""

    async def receive(self) -> bytes:
        """The part of the body that has arrived, waiting for some; empty after the last byte.

        Raises:
            ModelTimeoutError: `idle_s` or `total_s` passed.
            ModelConnectionError: the connection broke before the body's end.
            MalformedStreamError: it is not HTTP.
        """

    def forget_headers(self) -> None:
        """Drop the headers: nobody will ask for them again, and the body may take hours."""
        return


class Transport(Protocol):
    """How a provider is reached."""

    def send(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpReply]:
        """Send a request; the context is entered with the head of the answer, whatever its status.

        Leaving the context before the end of the body closes the connection at once, so that
        the provider stops; after the end, the connection is kept for the next request. A
        cancellation before a byte was sent gets the note `UNSENT` of `orchestra.accounts`.

        Raises:
            ModelTimeoutError: `connect_s`, `first_byte_s` or `total_s` passed.
            ModelConnectionError: no connection, or it broke before the head.
            MalformedStreamError: it is not HTTP.
        """


class VectorStore(Protocol):
    """One collection of passages that can be searched by meaning.

    `where` selects the passages whose metadata has all of these values; the key `source` is
    compared with `Passage.source`. Every method raises StoreError where it cannot do its work.
    """

    async def search(
        self, vector: Vector, *, top: int, where: Mapping[str, Scalar] | None = None
    ) -> list[Passage]:
        """The `top` nearest passages, nearest first and equals by id, each with its score."""

    async def upsert(self, passages: Sequence[Passage], vectors: Sequence[Vector]) -> None:
        """Insert passages, replacing those with the same id; all of them or none."""

    async def delete(self, *, where: Mapping[str, Scalar]) -> int:
        """Remove the matching passages, all if `where` is empty; returns how many there were."""

    async def count(self) -> int:
        """How many passages the collection holds."""

    async def digests(self) -> Mapping[str, str]:
        """Each ingested source with the digest of the content its passages were cut from.

        Taken from the metadata key `DIGEST`; "" where the passages of one source disagree
        (a replacement was cut short). Sources without a digest are left out.
        """


class Origin(Protocol):
    """A step of a run, and on whose behalf it runs."""

    @property
    def run_id(self) -> str:
        """The id of the run."""

    @property
    def step(self) -> str:
        """The path of the step in its pipeline, as in events."""

    @property
    def caller(self) -> Caller:
        """Who started the run."""


class Context(Origin, RunsPipelines, Protocol):
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
        """Add what a call consumed, its `Completion.usage`, to the account of the step."""

    async def kept(self, opened: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """A client or pool from `opened()`: opened once, and closed after the engine's last run.

        Raises:
            DefinitionError: `opened()` is no async context manager.
            LimitExceededError: a thousand others are open; `opened` tells them apart.
            Exception: whatever it raises while it opens; the next call tries again.
        """

    def tell(self, what: str, data: object = None) -> None:
        """Send an event `step.told` to those who follow the run: the progress of long work, say.

        Never waits, and may be called in a thread. `data` is serialised at once, as a chunk of
        output would be. It is no part of the result; once the run has ended, nothing is sent.

        Raises:
            LimitExceededError: it is longer than 16 KiB as JSON (`limit` is `told_bytes`).
        """


class Entry(msgspec.Struct, frozen=True):
    """A value in a state, kept for `ttl_s` seconds from now; None is for ever.

    Of those with one key up to its last colon, a state in memory keeps the `newest` so many.
    """

    data: bytes
    ttl_s: float | None = None
    newest: int | None = None


class Change(msgspec.Struct, Generic[T_co], frozen=True):
    """What a change writes under some keys, and the result that it returns.

    A key that is not in `entries` stays as it is; None removes a key.
    """

    result: T_co
    entries: Mapping[str, Entry | None] = {}


WhenStateFails: TypeAlias = Literal["open", "closed"]
"""What a policy does when its state is unreachable or too slow: go on ("open"), as a cache may, or
refuse ("closed"), as a budget has to. Each has a default, which its configuration may override."""


class State(Protocol):
    """Where policies keep what they remember: in this process, on a host, or for all hosts.

    Keys are text without whitespace, and begin with the name of their policy and a colon.
    """

    at_once: bool = False
    """Whether it never waits and never fails, so that no call needs a timeout."""

    async def change(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[bytes | None], float], Change[T]],
    ) -> T:
        """Change what is kept under some keys, atomically.

        `decide` is given the present values, in the order of the keys, and the state's own time
        in seconds since 1970. It must be pure: on a conflict it is called again. When this is
        cancelled, the change may or may not have been made.

        Raises:
            StateError: the store is unreachable or too slow; the change may have been made.
        """

    async def revise(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[D | None], float], Revision[T, D]],
        encoding: Encoding[D],
    ) -> T:
        """As `change`, for records that `encoding` reads and writes. Raises StateError.

        `decide` owns the records: it may modify one and return it. Whether a record that it
        modified and did not return keeps the modification is undefined. A state in memory keeps
        the records themselves, without encoding them.
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
        """What `see` returns for some records, which it must not change. Raises as `revise`."""
        return await self.revise(keys, lambda kept, now_s: Revision(see(kept, now_s)), encoding)

    async def recall(self, key: str) -> bytes | None:
        """What was remembered under a key, or None; marks it as used. Raises StateError."""

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        """Keep data for so long; the least recently used goes first. Raises StateError."""


class Bindings(Protocol):
    """What the names in pipelines refer to in this deployment."""

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
