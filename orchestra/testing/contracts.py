"""Contracts: checks that your own `Model`, `Embedder`, `VectorStore` or `State` has to pass.

Each check is an async function that takes your object and uses it as the library does:
`trio.run(check_store, MyStore())`. A broken promise raises an AssertionError that names the
promise, the call, and the result.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from orchestra.answers import Completion
from orchestra.errors import ModelError, StateError, StoreError
from orchestra.protocols import DIGEST, Change, Embedder, Entry, Model, ModelReply, State
from orchestra.protocols import VectorStore as Store
from orchestra.records import Encoding, Revision
from orchestra.testing.playing.task_tree import all_tasks, tasks_since
from orchestra.testing.promises import finds_by_keywords, refused
from orchestra.values import (
    ChatRequest,
    Message,
    ModelEvent,
    Passage,
    Scalar,
    Stopped,
    UsageReport,
    Vector,
)

_LONG_S = 60.0
"""The time limit for each part of a check; a part that exceeds it counts as hanging."""
_NEAR = 1e-3  # the tolerance for float16 weights and the order of sums
_MANY = 16
_BACKWARDS: Encoding[bytearray] = Encoding(
    lambda data: bytearray(data[::-1]), lambda record: bytes(record[::-1])
)
"""Encoded and decoded forms differ, so that mixing them up is noticed."""
_HELLO = ChatRequest((Message("user", "Say hello."),))


async def check_model(model: Model, request: ChatRequest = _HELLO) -> None:
    """Check that a model keeps the promises of `Model`. It is called five times.

    Raises:
        AssertionError: a promise is broken; the message says which.
        ModelError: the model is unreachable, or failed for another valid reason.
    """
    answer = await _answer(model, request)
    _is_whole("its answer", answer)
    Completion.of(answer)
    async with _step("an answer that is left early stops"), model.stream(request) as left:
        await left.receive()
    async with _step("two answers at once are independent of each other"):
        async with model.stream(request) as one, model.stream(request) as other:
            both: list[list[ModelEvent]] = [[], []]
            open_ = [(one, both[0]), (other, both[1])]
            while open_:
                reply, so_far = open_.pop(0)
                if batch := await reply.receive():
                    so_far += batch
                    open_.append((reply, so_far))
        for number, events in enumerate(both, 1):
            _is_whole(f"number {number} of two answers at once, read in turns,", events)
    async with _step("a cancelled answer raises trio.Cancelled"):
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                async with model.stream(request) as late:
                    await late.receive()
            except ModelError as error:
                raise AssertionError(f"trio.Cancelled became {error!r:.200}") from error


async def _answer(model: Model, request: ChatRequest) -> list[ModelEvent]:
    events: list[ModelEvent] = []
    promise = _step("a model answers, and fails with a ModelError")
    async with promise, model.stream(request) as reply:
        while batch := await _batch(reply):
            events += batch
        again = await _batch(reply)
    assert again == (), f"receive() gives () also after its end; it gave {again!r:.200}"
    return events


async def _batch(reply: ModelReply) -> tuple[ModelEvent, ...]:
    batch: object = await reply.receive()
    assert isinstance(batch, tuple), f"receive() gives a tuple of events; it gave {batch!r:.200}"
    for event in batch:
        assert isinstance(event, ModelEvent), (
            f"receive() gives events such as TextDelta('text'); it gave {event!r:.200}"
        )
    return batch


def _is_whole(what: str, events: Sequence[ModelEvent]) -> None:
    stops = [place for place, event in enumerate(events) if isinstance(event, Stopped)]
    assert len(stops) == 1, (
        f"{what} has one Stopped, or raises TruncatedStreamError if it was cut; it has "
        f"{len(stops)}: {events!r:.300}"
    )
    late = [event for event in events[stops[0] + 1 :] if not isinstance(event, UsageReport)]
    assert not late, f"after Stopped, only a UsageReport may follow; there was {late!r:.200}"


async def check_embedder(embedder: Embedder) -> None:
    """Check that an embedder keeps the promises of `Embedder`. It is called five times.

    Raises:
        AssertionError: a promise is broken; the message says which.
    """
    size = embedder.dimensions
    assert type(size) is int and size > 0, f"dimensions is an int above 0, not {size!r}"  # noqa: PT018
    texts = ["The door opens at nine.", "Bikes stay outside.", "The door opens at nine."]
    vectors = await _vectors(embedder, texts)
    alone = [(await _vectors(embedder, [text]))[0] for text in texts[:2]]
    for text, together, single in zip(texts, vectors, [*alone, alone[0]], strict=True):
        cosine = sum(a * b for a, b in zip(together, single, strict=True))
        assert cosine > 1 - _NEAR, (
            f"vectors are in the order of the texts, and do not depend on other texts; that of "
            f"{text!r} in {texts!r} differs from its vector alone (their cosine is {cosine:.3f})"
        )
    assert await _vectors(embedder, []) == [], "for no texts it gives no vectors: []"
    async with _step("it takes a purpose"):
        await embedder.embed(texts[:1], purpose="query")


async def _vectors(embedder: Embedder, texts: Sequence[str]) -> list[Vector]:
    async with _step(f"embed({texts!r}) gives a vector for each"):
        vectors = await embedder.embed(texts)
        assert len(vectors) == len(texts), f"it gave {len(vectors)} for {len(texts)} texts"
        for vector in vectors:
            assert isinstance(vector, Vector), f"each is a Vector; it gave {vector!r:.200}"
            size = embedder.dimensions
            assert len(vector) == size, f"each has {size} dimensions; it gave one of {len(vector)}"
            length = math.hypot(*vector)
            assert abs(length - 1) < _NEAR, f"each is of length 1; it gave one of {length:g}"
    return vectors


async def check_store(store: Store) -> None:
    """Check that an empty store keeps the promises of `VectorStore`. It is empty afterwards.

    Raises:
        AssertionError: a promise is broken, or it is not empty; the message says which.
        StoreError: the store is unreachable.
    """
    await _warm(store.count)
    async with _step("it is empty"):
        assert await store.count() == 0, "the check needs an empty collection of its own"
    east, north = Vector.of([1.0, 0.0, 0.0]), Vector.of([0.0, 1.0, 0.0])
    between = Vector.of([3.0, 4.0, 0.0])
    kept = [
        Passage("b", "B", "one.md", metadata={"kind": "x", DIGEST: "1"}),
        Passage("a", "A", "one.md", metadata={"kind": None, DIGEST: "2"}),
        Passage("c", "C", "two.md", metadata={DIGEST: "3"}),
    ]
    async with _step("search gives the nearest first, each with its cosine, ties by id"):
        await store.upsert(kept, [east, east, north])
        await _finds(store, between, 9, ["c", "a", "b"], [0.8, 0.6, 0.6])
        await _finds(store, between, 2, ["c", "a"], [0.8, 0.6])
        (found,) = await store.search(north, top=1)
        assert (found.text, found.source, dict(found.metadata)) == ("C", "two.md", {DIGEST: "3"}), (
            f"a passage comes back as it was given; it came back as {found!r:.300}"
        )
    async with _step("where keeps the passages that have all of its keys with these values"):
        expected: list[tuple[dict[str, Scalar], list[str]]] = [
            ({"kind": "x"}, ["b"]),
            ({"source": "two.md"}, ["c"]),  # which is the farthest
            ({"kind": None}, ["a"]),
            ({"kind": "x", "source": "two.md"}, []),
        ]
        for where, ids in expected:
            of = [each.id for each in await store.search(east, top=len(ids) + 1, where=where)]
            assert of == ids, f"search(..., where={where!r}) found {of}, not {ids}"
    async with _step("search_keywords finds the passages with a word of the query, if where holds"):
        await finds_by_keywords(store)
    async with _step("digests tells the digest of each source, '' if its passages differ"):
        digests = dict(await store.digests())
        assert digests == {"one.md": "", "two.md": "3"}, f"it gave {digests}"
    async with _step("upsert replaces a passage of the same id completely"):
        await store.upsert([Passage("a", "new", "two.md")], [north])
        await _finds(store, north, 2, ["a", "c"], [1.0, 1.0])
        gone = await store.search(north, top=9, where={"source": "one.md"})
        assert [each.id for each in gone] == ["b"], f"'a' left one.md; that has {gone!r:.200}"
        assert await store.count() == len(kept), "a replaced passage is counted once"
    async with _step("a batch with one wrong vector is a StoreError, and changes nothing"):
        await refused(store, [Passage("d", ""), Passage("e", "")], [east, Vector.of([1.0])])
        await refused(store, [Passage("d", "")], [])
        assert await store.count() == len(kept), f"there are {await store.count()} passages"
    await _deletes(store, east)


async def _deletes(store: Store, east: Vector) -> None:
    async with _step("concurrent writers do not lose each other's passages"):
        async with trio.open_nursery() as nursery:
            for number in range(8):
                some = [Passage(f"{number}-{each}", "", "many.md") for each in range(8)]
                nursery.start_soon(store.upsert, some, [east] * len(some))
        found = await store.search(east, top=99, where={"source": "many.md"})
        assert len(found) == 64, f"8 writers wrote 8 each; there are {len(found)}"  # noqa: PLR2004
    async with _step("delete removes the matching passages, and returns how many"):
        for where, many in [({"source": "none.md"}, 0), ({"source": "many.md"}, 64), ({}, 3)]:
            count = await store.delete(where=where)
            assert count == many, f"delete(where={where!r}) returned {count}, not {many}"
        left = await store.count()
        assert left == 0, f"{left} passages are left"
        assert not await store.search(east, top=1), "a deleted passage is still found"


async def _finds(
    store: Store, vector: Vector, top: int, ids: list[str], scores: list[float]
) -> None:
    found = await store.search(vector, top=top)
    of = [passage.id for passage in found]
    assert of == ids, f"search({vector!r}, top={top}) found {of}; nearest first it is {ids}"
    near = all(abs(p.score - s) < _NEAR for p, s in zip(found, scores, strict=True))
    assert near, f"the scores are the cosines {scores}; they were {[p.score for p in found]}"


async def check_state(state: State) -> None:
    """Check that a state keeps the promises of `State`, with keys that begin with `contract:`.

    Raises:
        AssertionError: a promise is broken; the message says which.
        StateError: the state is unreachable or too slow.
    """
    keys = ["contract:a", "contract:b"]
    await _warm(partial(state.recall, "contract:c"))

    async def kept() -> list[bytes | None]:
        return await state.change(keys, lambda there, _: Change(list(there)))

    def count(there: Sequence[bytes | None], _: float) -> Change[None]:
        number = int(there[0] or b"0") + 1
        return Change(None, {keys[0]: Entry(b"%d" % number, 60.0)})

    def fail(there: Sequence[bytes | None], _: float) -> Change[None]:
        raise KeyError(len(there))

    async with _step("change keeps the entries, in the order of the keys, and forgets None"):
        await state.change(keys, lambda *_: Change(None, {keys[1]: Entry(b"\0b"), keys[0]: None}))
        assert await kept() == [None, b"\0b"], f"there is {await kept()}"
        await state.change(keys[1:], lambda *_: Change(None, {keys[1]: None}))
        assert await kept() == [None, None], f"there is {await kept()}"
    async with _step("concurrent changes do not lose each other's entries"):
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(state.change, keys[:1], count)
        assert await kept() == [b"16", None], f"16 counted, and there is {await kept()}"
    async with _step("an exception of a decision reaches the caller, and changes nothing"):
        await _raises(partial(state.change, keys, fail))
        assert await kept() == [b"16", None], f"there is {await kept()}"
    async with _step("what was remembered is recalled until it expires"):
        await state.remember("contract:c", b"c", ttl_s=60.0)
        assert await state.recall("contract:c") == b"c"
        await state.remember("contract:d", b"d", ttl_s=0.0)
        assert await state.recall("contract:d") is None, "what is kept for 0 seconds has expired"
        await state.change(keys[:1], lambda *_: Change(None, {keys[0]: Entry(b"x", 0.0)}))
        assert await kept() == [None, None], f"an entry for 0 seconds is kept: {await kept()}"
    await _revises(state, keys, kept)
    await _is_cancelled(state, keys, kept)


async def _revises(
    state: State, keys: Sequence[str], kept: Callable[[], Awaitable[list[bytes | None]]]
) -> None:
    """Check that records are kept as if `change` had kept their encodings."""
    first, second = keys

    def grow(there: Sequence[bytearray | None], _: float) -> Revision[int, bytearray]:
        record = bytearray() if there[0] is None else there[0]
        record += b"."  # each attempt of a decision gets its own copy
        return Revision(len(record), {first: (record, 60.0)})

    def spoil(there: Sequence[bytearray | None], _: float) -> Revision[None, bytearray]:
        raise KeyError(len(there))

    async def records() -> list[bytes | None]:
        def see(there: Sequence[bytearray | None], _: float) -> list[bytes | None]:
            return [None if each is None else bytes(each) for each in there]

        return await state.look(keys, see, _BACKWARDS)

    async with _step("revise keeps a record as its encoding writes it, and forgets None"):
        two = {first: (bytearray(b"ab"), 60.0), second: (bytearray(b"cd"), 60.0)}
        told = await state.revise(keys, lambda *_: Revision("told", two), _BACKWARDS)
        assert told == "told", f"it returned {told!r:.80}, not the decision's result"
        assert await kept() == [b"ba", b"dc"], f"change finds {await kept()}"
        await state.change(keys, lambda *_: Change(None, {second: Entry(b"ef", 60.0)}))
        assert await records() == [b"ab", b"fe"], f"look sees {await records()}"
        none = {first: None, second: (bytearray(b"x"), 0.0)}
        await state.revise(keys, lambda *_: Revision(None, none), _BACKWARDS)
        assert await kept() == [None, None], f"there is {await kept()}"
    async with _step("concurrent revisions do not lose each other's records, or see rejected ones"):
        sizes: list[int] = []

        async def one() -> None:
            sizes.append(await state.revise(keys[:1], grow, _BACKWARDS))

        async with trio.open_nursery() as nursery:
            for _ in range(_MANY):
                nursery.start_soon(one)
        assert sorted(sizes) == [*range(1, _MANY + 1)], f"{_MANY} grew it to {sorted(sizes)}"
        assert await records() == [b"." * _MANY, None], f"there is {await records()}"
    async with _step("an exception of a revision reaches the caller, and changes nothing"):
        await _raises(partial(state.revise, keys, spoil, _BACKWARDS))
        assert await records() == [b"." * _MANY, None], f"there is {await records()}"
    async with _step("the time that a decision gets is in seconds, and never goes back"):
        times = [await state.look(keys, lambda _, now_s: now_s, _BACKWARDS) for _ in range(3)]
        times.append(await state.change([], lambda _, now_s: Change(now_s)))
        good = all(isinstance(each, float) for each in times) and times == sorted(times)
        assert good, f"it gave {times}"


async def _raises(call: Callable[[], Awaitable[object]]) -> None:
    try:
        await call()
    except KeyError:
        return
    raise AssertionError("the exception did not reach the caller")


async def _is_cancelled(
    state: State, keys: Sequence[str], kept: Callable[[], Awaitable[list[bytes | None]]]
) -> None:
    """Check that a change cancelled at any moment leaves neither half a change nor a lock."""

    async def cancelled(number: int, turns: int, after_s: float) -> None:
        written = b"%d" % number
        entries = {key: Entry(written, 60.0) for key in keys}
        through = False
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel, scope, turns, after_s)
                try:
                    await state.change(keys, lambda *_: Change(None, entries))
                except StateError as error:
                    raise AssertionError(f"trio.Cancelled became {error!r:.200}") from error
                through = True
        found, other = await kept()
        assert found == other, f"one key holds {found!r}, and the other {other!r}"
        assert not through or found == written, f"it wrote {written!r}, and there is {found!r}"

    async with _step("a cancelled change is made whole or not at all, and the next one works"):
        await state.change(keys, lambda *_: Change(None, dict.fromkeys(keys)))
        for number in range(_MANY):
            await cancelled(number, number, 0.0)
            await cancelled(number, 0, number / 4096)
        await state.change(keys, lambda *_: Change(None, dict.fromkeys(keys)))
        assert await kept() == [None, None], f"the next one wrote, but there is {await kept()}"


async def _cancel(scope: trio.CancelScope, turns: int, after_s: float) -> None:
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    if after_s:
        await trio.sleep(after_s)
    scope.cancel()


async def _warm(ask: Callable[[], Awaitable[object]]) -> None:
    """Let it open lasting objects such as a pool, so that their tasks exist before the checks."""
    async with _step("it answers several calls at once", lasting=True):
        await ask()  # if it is unreachable, one call raises
        async with trio.open_nursery() as nursery:
            for _ in range(_MANY):
                nursery.start_soon(ask)


@asynccontextmanager
async def _step(promise: str, *, lasting: bool = False) -> AsyncIterator[None]:
    """A context for one promise: its body must finish in time, and leave no task behind."""
    before = set(all_tasks())
    try:
        with trio.fail_after(_LONG_S):  # noqa: ASYNC100 - the body waits
            yield
        await trio.lowlevel.checkpoint()
        left = tasks_since(before)
        assert lasting or not left, f"tasks are left: {', '.join(left)}"
    except AssertionError as error:
        raise AssertionError(f"{promise}: {error}") from None
    except trio.TooSlowError:
        raise AssertionError(f"{promise}: after {_LONG_S:g} s it still waits") from None
    except (ModelError, StateError, StoreError):
        raise
    except Exception as error:
        raise AssertionError(f"{promise}: it raised {error!r:.300}") from error
