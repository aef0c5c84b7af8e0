"""The contracts accept what keeps them, and find each of many faults that users' own have."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from orchestra.errors import ModelConnectionError, ModelError, StateError, TruncatedStreamError
from orchestra.protocols import Change, Embedder, Entry, Model, ModelReply, State, VectorStore
from orchestra.records import Encoding, Revision
from orchestra.stores.memory import MemoryStore
from orchestra.stores.rules import matches
from orchestra.stores.sqlite import SqliteStores
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.contracts import check_embedder, check_model, check_state, check_store
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel
from orchestra.values import (
    ChatRequest,
    ModelEvent,
    Passage,
    Purpose,
    Scalar,
    Stopped,
    StopReason,
    TextDelta,
    Vector,
)

END = Stopped(StopReason.END)
A = TextDelta("a")


@attrs.define
class Said:
    """Batches, one for each `receive`."""

    batches: list[Any]

    async def receive(self) -> tuple[ModelEvent, ...]:
        await trio.lowlevel.checkpoint()
        batch: tuple[ModelEvent, ...] = self.batches.pop(0) if self.batches else ()
        return batch


class Says(Model):
    def __init__(self, *batches: Any) -> None:
        self.batches = batches

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        del request
        yield Said(list(self.batches))


class Shares(Says):
    """Its answers are kept on the model, where two at once meet."""

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        del request
        self.left = list(self.batches)
        yield self

    async def receive(self) -> tuple[ModelEvent, ...]:
        return await Said(self.left).receive()


class Raises(Model):
    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        raise KeyError(request.messages[0].text)
        yield  # type: ignore[unreachable]


class NotAContext(Model):
    def stream(self, request: ChatRequest) -> Any:
        del request
        return Said([(A, END)])


class Leaks(Says):
    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        del request
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
        yield Said(list(self.batches))


class TakesCancelledForAFailure(Says):
    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        del request
        try:
            yield Said(list(self.batches))
        except BaseException as error:
            raise ModelConnectionError("the connection broke") from error


class Dawdles(Says):
    """It closes its connection in a shield, and waits there for ever."""

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        del request
        try:
            yield Said(list(self.batches))
        finally:
            await trio.sleep_forever()


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (Says((A,)), "Stopped"),
        (Says((A,), (END,), (END,)), "it has 2"),
        (Says((END, A)), "after Stopped"),
        (Says("a"), "gives a tuple of events"),
        (Says(("a", END)), r"TextDelta\('text'\)"),
        (Says((A, END), (), (A,)), "also after its end"),
        (Shares((A,), (A,), (END,)), "two answers at once"),
        (Raises(), "fails with a ModelError: it raised KeyError"),
        (NotAContext(), "it raised"),
        (Leaks((A, END)), "tasks are left: trio.sleep_forever"),
        (TakesCancelledForAFailure((A, END)), "Cancelled became ModelConnectionError"),
        (Dawdles((A, END)), "after 60 s it still waits"),
    ],
    ids=lambda case: None if isinstance(case, str) else type(case).__name__,
)
def test_a_model_that_breaks_its_contract_is_found(model: Model, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        virtual(lambda: check_model(model))


def test_a_model_that_is_cut_or_away_says_so_itself() -> None:
    cut = ScriptedModel(((0.0, A),))
    with pytest.raises(TruncatedStreamError):
        virtual(lambda: check_model(cut))
    with pytest.raises(ModelError, match="away"):
        virtual(lambda: check_model(ScriptedModel((), ModelConnectionError("away"))))


class Words(Embedder):
    dimensions = 3

    def of(self, text: str) -> list[float]:
        found = [float(word in text.lower()) for word in ("door", "bike", "the")]
        length = math.hypot(*found) or 1.0
        return [number / length for number in found]

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        del purpose
        await trio.lowlevel.checkpoint()
        return [Vector.of(self.of(text)) for text in texts]


class Sorts(Words):
    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        return await super().embed(sorted(texts), purpose=purpose)


class ForgetsTheSame(Words):
    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        return await super().embed(list(dict.fromkeys(texts)), purpose=purpose)


class IsLong(Words):
    def of(self, text: str) -> list[float]:
        return [2 * number for number in super().of(text)]


class CountsWrong(Words):
    dimensions = 4


class GivesLists(Words):
    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> Any:
        return [list(each) for each in await super().embed(texts, purpose=purpose)]


class FailsOnNone(Words):
    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        assert texts or purpose, texts
        return [*await super().embed(texts)] if texts[0] else []


class KnowsNoPurpose(Words):
    async def embed(self, texts: Sequence[str]) -> list[Vector]:  # type: ignore[override]
        return await super().embed(texts)


@pytest.mark.parametrize(
    ("embedder", "told"),
    [
        (Sorts(), "in the order of the texts"),
        (ForgetsTheSame(), "it gave 2 for 3 texts"),
        (IsLong(), "of length 1; it gave one of 2"),
        (CountsWrong(), "4 dimensions; it gave one of 3"),
        (GivesLists(), "each is a Vector"),
        (FailsOnNone(), r"embed\(\[\]\)"),
        (KnowsNoPurpose(), "it takes a purpose: it raised TypeError"),
    ],
    ids=lambda case: None if isinstance(case, str) else type(case).__name__,
)
def test_an_embedder_that_breaks_its_contract_is_found(embedder: Embedder, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        trio.run(check_embedder, embedder)


class Broken(MemoryStore):
    """A store whose faults are chosen by name."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    async def search(
        self, vector: Vector, *, top: int, where: Mapping[str, Scalar] | None = None
    ) -> list[Passage]:
        if self.fault == "where of several keys is any" and where:
            found = {}
            for key, value in where.items():
                for each in await super().search(vector, top=top, where={key: value}):
                    found[each.id] = each
            return list(found.values())
        if self.fault == "no key is None" and where == {"kind": None}:
            return [p for p in await super().search(vector, top=top) if "kind" not in p.metadata]
        nearest = await super().search(vector, top=top, where=where)
        match self.fault:
            case "the last comes first":
                return nearest[::-1]
            case "one too many":
                return await super().search(vector, top=top + 1, where=where)
            case "distances for cosines":
                return [attrs.evolve(each, score=1 - each.score) for each in nearest]
            case "no metadata":
                return [attrs.evolve(each, metadata={}) for each in nearest]
            case "where of the nearest":
                nearest = await super().search(vector, top=top)
                return [p for p in nearest if matches(p.source, p.metadata, where or {})]
            case "no where":
                return await super().search(vector, top=top)
        return nearest

    async def upsert(self, passages: Sequence[Passage], vectors: Sequence[Vector]) -> None:
        match self.fault:
            case "a batch by halves":
                for passage, vector in zip(passages, vectors, strict=False):
                    await super().upsert([passage], [vector])
                return
            case "the first stays":
                there = {p.id for p in await super().search(Vector.of([1.0, 0.0, 0.0]), top=99)}
                pairs = [p for p in zip(passages, vectors, strict=False) if p[0].id not in there]
                if pairs or len(vectors) != len(passages):
                    await super().upsert([p for p, _ in pairs], [v for _, v in pairs])
                return
        await super().upsert(passages, vectors)

    async def delete(self, *, where: Mapping[str, Scalar]) -> int:
        match self.fault:
            case "nothing goes":
                return len(await super().search(Vector.of([1.0, 0.0, 0.0]), top=99, where=where))
            case "tells nothing":
                await super().delete(where=where)
                return 0
        return await super().delete(where=where)

    async def digests(self) -> dict[str, str]:
        found = await super().digests()
        return {k: v or "1" for k, v in found.items()} if self.fault == "first digest" else found


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("the last comes first", "search gives the nearest first"),
        ("one too many", "search gives the nearest first"),
        ("distances for cosines", "the scores are the cosines"),
        ("no metadata", "comes back as it was given"),
        ("no where", "where keeps"),
        ("where of several keys is any", "where keeps"),
        ("where of the nearest", "where={'source': 'two.md'}\\) found \\[\\]"),
        ("no key is None", "where keeps"),
        ("a batch by halves", "changes nothing"),
        ("the first stays", "upsert replaces"),
        ("nothing goes", "returned 67, not 3"),
        ("tells nothing", "returned 0, not 64"),
        ("first digest", "digests tells"),
    ],
)
def test_a_store_that_breaks_its_contract_is_found(fault: str, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        trio.run(check_store, Broken(fault))


class Careless(MemoryState):
    """A state that reads, waits, and then writes."""

    fault = "between"

    async def change(self, keys: Sequence[str], decide: Any) -> Any:
        there = await super().change(keys, lambda kept, _: Change(list(kept)))
        if self.fault == "between":
            await trio.lowlevel.checkpoint()
        if self.fault == "order":
            there = there[::-1]
        try:
            change = decide(there, 0.0)
        except KeyError:
            if self.fault != "swallows":
                raise
            return None
        entries = dict(change.entries)
        if self.fault == "keeps none":
            entries = {key: entry for key, entry in entries.items() if entry is not None}
        if self.fault == "for ever":
            entries = {key: entry and Entry(entry.data) for key, entry in entries.items()}
        return await super().change(keys, lambda *_: Change(change.result, entries))

    async def recall(self, key: str) -> bytes | None:
        return None if self.fault == "forgets" else await super().recall(key)

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        long_s = ttl_s if self.fault != "remembers for ever" else math.inf
        await super().remember(key, data, ttl_s=long_s)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("between", "concurrent changes do not lose"),
        ("order", "in the order of the keys"),
        ("keeps none", "forgets None"),
        ("swallows", "did not reach the caller"),
        ("for ever", "for 0 seconds is kept"),
        ("forgets", "what was remembered is recalled"),
        ("remembers for ever", "what is kept for 0 seconds has expired"),
    ],
)
def test_a_state_that_breaks_its_contract_is_found(fault: str, told: str) -> None:
    state = Careless()
    state.fault = fault
    with pytest.raises(AssertionError, match=told):
        trio.run(check_state, state)


class Revises(MemoryState):
    """A state whose faults are those of a shared one: it waits, and asks a decision again."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.lock = trio.Semaphore(1)
        self.first: Any = None

    async def change(self, keys: Sequence[str], decide: Any) -> Any:
        def at_another_time(kept: Any, now_s: float) -> Any:
            return decide(kept, -now_s if self.fault == "time goes back" else now_s)

        if self.fault == "a lock is kept":
            await self.lock.acquire()
            await trio.lowlevel.checkpoint()
            self.lock.release()
        if self.fault == "cancelled is a failure":
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                raise StateError("too slow") from error
        if self.fault == "half is written":
            there = await super().change(keys, lambda kept, now_s: Change(decide(kept, now_s)))
            for key, entry in there.entries.items():
                await super().change((), lambda *_, k=key, e=entry: Change(None, {k: e}))
                if len(there.entries) > 1:
                    await trio.lowlevel.checkpoint()
            return there.result
        return await super().change(keys, at_another_time)

    async def revise(self, keys: Sequence[str], decide: Any, encoding: Any) -> Any:
        match self.fault:
            case "a record is written as it is":
                return await super().revise(keys, decide, Encoding(bytearray, bytes))
            case "a revision says nothing":
                await State.revise(self, keys, decide, encoding)
                return None
            case "a record is used again":

                def twice(there: Any, now_s: float) -> Any:
                    decide(there, now_s)
                    return decide(there, now_s)

                return await State.revise(self, keys, twice, encoding)
            case "a revision is lost":
                there = await super().revise(keys, lambda kept, _: Revision(list(kept)), encoding)
                copies = [None if each is None else bytearray(each) for each in there]
                await trio.lowlevel.checkpoint()
                return await super().revise(keys, lambda _, now_s: decide(copies, now_s), encoding)
            case "a revision swallows":
                try:
                    return await State.revise(self, keys, decide, encoding)
                except KeyError:
                    return None
        return await State.revise(self, keys, decide, encoding)

    async def look(self, keys: Sequence[str], see: Any, encoding: Any) -> Any:
        if self.fault == "a look is old":
            if self.first is None:
                self.first = await super().look(keys, lambda kept, _: list(kept), encoding)
            return see(self.first, 0.0)
        return await super().look(keys, see, encoding)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("", ""),
        ("a record is written as it is", "as its encoding writes it"),
        ("a revision says nothing", "not the decision's result"),
        ("a record is used again", "or see rejected ones"),
        ("a revision is lost", "concurrent revisions do not lose"),
        ("a revision swallows", "did not reach the caller"),
        ("a look is old", "concurrent revisions do not lose"),
        ("time goes back", "never goes back"),
        ("a lock is kept", "the next one works: after 60 s it still waits"),
        ("cancelled is a failure", "Cancelled became StateError"),
        ("half is written", "one key holds b'0', and the other None"),
    ],
)
def test_a_state_that_revises_or_is_cancelled_wrongly_is_found(fault: str, told: str) -> None:
    if not fault:
        virtual(lambda: check_state(Revises(fault)))
        return
    with pytest.raises(AssertionError, match=told):
        virtual(lambda: check_state(Revises(fault)))


class Pooled(MemoryState):
    """It opens what it keeps open when it is asked first, and each time again if it is careless."""

    def __init__(self, *, careless: bool) -> None:
        super().__init__()
        self.opens = True
        self.careless = careless

    async def recall(self, key: str) -> bytes | None:
        if self.opens:
            trio.lowlevel.spawn_system_task(trio.sleep_forever)
        self.opens = self.careless
        return await super().recall(key)


def test_what_a_state_opens_once_for_its_life_is_no_task_that_is_left() -> None:
    virtual(lambda: check_state(Pooled(careless=False)))
    with pytest.raises(AssertionError, match=r"tasks are left: trio\.sleep_forever"):
        virtual(lambda: check_state(Pooled(careless=True)))


def test_a_state_that_is_gone_says_so_itself() -> None:
    class Gone(MemoryState):
        async def recall(self, key: str) -> bytes | None:
            raise StateError(f"gone before {key}")

    with pytest.raises(StateError, match="gone before contract:c"):
        virtual(lambda: check_state(Gone()))


def test_what_keeps_its_contract_is_accepted(tmp_path: Path) -> None:
    trio.run(check_model, Says((A,), (A, END)))
    virtual(lambda: check_model(ScriptedModel.saying("a", "b", every_s=1)))
    trio.run(check_embedder, Words())
    trio.run(check_state, MemoryState())
    stores: list[VectorStore]
    with SqliteStores(tmp_path / "store.sqlite") as files:
        stores = [MemoryStore(), files.collection("mine")]
        for store in stores:
            trio.run(check_store, store)
            trio.run(check_store, store)
    state: State = MemoryState()
    trio.run(check_state, state)
