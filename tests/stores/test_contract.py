"""What a vector store promises, checked on every store against a list and a cosine."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestra.errors import StoreError
from orchestra.protocols import VectorStore
from orchestra.stores import keywords
from orchestra.stores.keywords import words_asked, words_of
from orchestra.stores.memory import MemoryStore
from orchestra.stores.postgres.stores import PostgresStores
from orchestra.stores.sqlite import SqliteStores
from orchestra.values import Passage, Scalar, Vector
from tests.servers.postgres import shared_postgres

T = TypeVar("T")

DIMENSIONS = 3
NEAR = 1e-6

ids = st.sampled_from(["a", "b", "c", "é", "\0", "a\0b"]) | st.text(max_size=3)
sources = st.sampled_from(["", "one.md", "two.md", "5"])
scalars = st.sampled_from([None, True, False, 0, 1, 1.0, -0.0, "", "1", "x", 2**70, 1e300])
keys = st.sampled_from(["kind", "source", "digest", "it's", 'a"b', "a.b", "heading"])
metadata = st.dictionaries(keys, scalars, max_size=3)
words = st.sampled_from(
    ["door", "Tür", "TUR", "E-1234", "e1234", "東京都", "京", "猫", "हिन्दी", "a_b", "?"]
)
texts = st.text(max_size=5) | st.lists(words, max_size=4).map(" ".join)
passages = st.builds(Passage, id=ids, text=texts, source=sources, metadata=metadata)
numbers = st.integers(-2, 2).map(float) | st.sampled_from([1e-30, 1e30])
vectors = st.lists(numbers, min_size=DIMENSIONS, max_size=DIMENSIONS).map(Vector.of)
items = st.lists(st.tuples(passages, vectors), max_size=6)
filters = st.dictionaries(keys, scalars | sources, max_size=2)


def run(call: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        return await call()

    return trio.run(main)


def cosine(one: Vector, other: Vector) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(a / lengths * b for a, b in zip(one, other, strict=True)) if lengths else 0.0


def matches(passage: Passage, where: Mapping[str, Scalar]) -> bool:
    fields = {**passage.metadata, "source": passage.source}
    return all(key in fields and fields[key] == value for key, value in where.items())


class StoresAgree(RuleBasedStateMachine):
    """Whatever is done to them, both stores hold and find what the model does."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.model: dict[str, tuple[Passage, Vector]] = {}
        self.memory = MemoryStore()
        self.open()

    def open(self) -> None:
        self.stores: SqliteStores | PostgresStores
        self.other: SqliteStores | PostgresStores
        self.stores = SqliteStores(Path(self.folder.name) / "deep" / "store.sqlite")
        self.other = SqliteStores(self.stores.path)
        self.both: list[VectorStore] = [self.memory, self.stores.collection("it's")]
        self.seen: VectorStore = self.other.collection("it's")

    def teardown(self) -> None:
        self.stores.close()
        self.other.close()
        self.folder.cleanup()

    @initialize()
    def make(self) -> None:
        """A collection exists from its first upsert on, and has that many dimensions."""
        for store in self.both:
            run(lambda: store.upsert([Passage("first", "")], [Vector.of([1.0, 0.0, 0.0])]))
            assert run(lambda: store.delete(where={})) == 1

    @rule(batch=items)
    def upsert(self, batch: list[tuple[Passage, Vector]]) -> None:
        for store in self.both:
            run(lambda: store.upsert([p for p, _ in batch], [v for _, v in batch]))
        self.model.update({passage.id: (passage, vector) for passage, vector in batch})

    @rule(where=filters)
    def delete(self, where: dict[str, Scalar]) -> None:
        gone = {key for key, (passage, _) in self.model.items() if matches(passage, where)}
        self.model = {key: held for key, held in self.model.items() if key not in gone}
        for store in self.both:
            assert run(lambda: store.delete(where=where)) == len(gone)

    @rule(query=vectors, top=st.integers(1, 8), where=st.none() | filters)
    def search(self, query: Vector, top: int, where: dict[str, Scalar] | None) -> None:
        first, second, elsewhere = (
            run(lambda: store.search(query, top=top, where=where))
            for store in (*self.both, self.seen)
        )
        assert first == second == elsewhere
        self.check(first, query, top, where or {})

    def check(
        self, found: list[Passage], query: Vector, top: int, where: Mapping[str, Scalar]
    ) -> None:
        expected = {
            key: cosine(query, vector)
            for key, (passage, vector) in self.model.items()
            if matches(passage, where)
        }
        assert len(found) == min(top, len(expected))
        assert found == sorted(found, key=lambda passage: (-passage.score, passage.id))
        for passage in found:
            assert attrs.evolve(passage, score=0.0) == self.model[passage.id][0]
            assert passage.score == pytest.approx(expected.pop(passage.id), abs=NEAR)
            assert -1 <= passage.score <= 1
        assert all(score <= found[-1].score + NEAR for score in expected.values())

    @rule()
    def reopen(self) -> None:
        self.stores.close()
        self.other.close()
        self.open()

    @invariant()
    def holds_the_same(self) -> None:
        digests: dict[str, set[Scalar]] = {}
        for passage, _ in self.model.values():
            value = passage.metadata.get("digest")
            digests.setdefault(passage.source, set()).add(value if type(value) is str else None)
        expected = {
            source: str(*several) if len(several) == 1 else ""
            for source, several in digests.items()
            if several != {None}
        }
        for store in self.both:
            assert run(store.count) == len(self.model)
            assert run(store.digests) == expected


class KeywordsAgree(StoresAgree):
    """All of them have keyword search, too."""

    @rule(query=texts, top=st.integers(1, 8), where=st.none() | filters)
    def search_keywords(self, query: str, top: int, where: dict[str, Scalar] | None) -> None:
        """Found is what has one of the words and matches; all stores rank it alike."""
        first, second, elsewhere = (
            run(lambda: store.search_keywords(query, top=top, where=where))
            for store in (*self.both, self.seen)
        )
        assert first == second == elsewhere
        asked = set(words_asked(query))
        expected = {
            key
            for key, (passage, _) in self.model.items()
            if asked & words_of(passage.text, passage.metadata).keys()
            and matches(passage, where or {})
        }
        assert len(first) == min(top, len(expected))
        assert {passage.id for passage in first} <= expected
        assert first == sorted(first, key=lambda passage: (-passage.score, passage.id))
        for passage in first:
            assert attrs.evolve(passage, score=0.0) == self.model[passage.id][0]
            assert passage.score > 0


TestStoresAgree = KeywordsAgree.TestCase
TestStoresAgree.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)


class PostgresAgrees(KeywordsAgree):
    """As does one in Postgres, through two pools."""

    def __init__(self) -> None:
        self.address = shared_postgres().database()
        super().__init__()

    def open(self) -> None:
        self.stores, self.other = PostgresStores(self.address), PostgresStores(self.address)
        self.both = [self.memory, self.stores.collection("it's")]
        self.seen = self.other.collection("it's")


TestPostgresAgrees = PostgresAgrees.TestCase
TestPostgresAgrees.settings = TestStoresAgree.settings


@pytest.fixture(params=["sqlite", "postgres"])
def several(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[SqliteStores | PostgresStores]:
    """A file or a database of collections."""
    stores: SqliteStores | PostgresStores
    if request.param == "sqlite":
        stores = SqliteStores(tmp_path / "store.sqlite")
    else:
        stores = PostgresStores(shared_postgres().database())
    with stores:
        yield stores


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    if request.param == "memory":
        yield MemoryStore("handbook")
        return
    where = tmp_path / "store.sqlite"
    stores: SqliteStores | PostgresStores
    with (
        SqliteStores(where)
        if request.param == "sqlite"
        else PostgresStores(shared_postgres().database())
    ) as stores:
        yield stores.collection("handbook")


def refused(call: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(StoreError) as caught:
        run(call)
    return str(caught.value)


ONE = Passage("one", "text")
EAST = Vector.of([1.0, 0.0])


def test_equal_scores_are_in_the_order_of_their_ids(store: VectorStore) -> None:
    """However many there are and whichever of numpy's loops they fall into."""
    some = [Passage(f"{i:03}", "") for i in range(101)]
    same = Vector.of([0.1, 0.7, 0.3, 0.2, 0.9])
    run(lambda: store.upsert(some[::-1], [same] * len(some)))
    found = run(lambda: store.search(Vector.of([0.3, 0.3, 0.3, 0.1, 0.1]), top=7))
    assert [passage.id for passage in found] == [f"{i:03}" for i in range(7)]


def test_what_single_precision_cannot_tell_apart_is_in_order(store: VectorStore) -> None:
    """The cosines differ by less than the error of a sum of float32 products."""
    draw = random.Random(1)
    middle = [draw.gauss(0, 1) for _ in range(64)]
    near = [Vector.of([x + draw.gauss(0, 1e-4) for x in middle]) for _ in range(300)]
    some = [Passage(f"{number:03}", "") for number in range(len(near))]
    model = MemoryStore()
    for each in (model, store):
        run(lambda: each.upsert(some, near))
    for top in (1, 2, 7, 50):
        found, expected = (
            run(lambda: each.search(Vector.of(middle), top=top)) for each in (store, model)
        )
        assert [(p.id, p.score) for p in found] == [(p.id, p.score) for p in expected]


@pytest.mark.parametrize(
    ("cosine", "score"), [(2.0**-10, 0.000976562), (-(2.0**-10), -0.000976562)]
)
def test_half_of_the_last_place_is_rounded_to_the_even_neighbour(
    store: VectorStore, cosine: float, score: float
) -> None:
    """In every store, so that scores can be compared and equals are equals everywhere."""
    run(lambda: store.upsert([ONE], [Vector.of([cosine, math.sqrt(1 - cosine**2)])]))
    (found,) = run(lambda: store.search(EAST, top=1))
    assert found.score == score


def test_a_wrong_number_of_dimensions_names_both_and_changes_nothing(store: VectorStore) -> None:
    run(lambda: store.upsert([ONE], [EAST]))
    for call in (
        lambda: store.upsert([Passage("two", "")], [Vector.of([1.0, 2.0, 3.0])]),
        lambda: store.search(Vector.of([1.0, 2.0, 3.0]), top=1),
        lambda: store.upsert([ONE, ONE], [EAST, Vector.of([1.0, 2.0, 3.0])]),
    ):
        message = refused(call)
        assert "'handbook'" in message
        assert "3 dimensions, where the others have 2" in message
        assert "ingest into a new collection" in message
    assert run(store.count) == 1


def test_an_emptied_collection_takes_another_number_of_dimensions(store: VectorStore) -> None:
    run(lambda: store.upsert([ONE], [EAST]))
    run(lambda: store.delete(where={}))
    wide = Vector.of([1.0, 2.0, 3.0])
    assert run(lambda: store.search(wide, top=1)) == []
    run(lambda: store.upsert([ONE], [wide]))
    assert [found.id for found in run(lambda: store.search(wide, top=1))] == ["one"]


@pytest.mark.parametrize("top", [0, -1])
def test_asking_for_no_passages_is_an_error(store: VectorStore, top: int) -> None:
    assert f"search(top={top})" in refused(lambda: store.search(EAST, top=top))


@pytest.mark.parametrize("numbers", [[math.nan, 0.0], [math.inf, 0.0], []])
def test_a_vector_without_a_direction_is_refused(store: VectorStore, numbers: list[float]) -> None:
    run(lambda: store.upsert([ONE], [EAST]))
    bad = Vector.of(numbers)
    assert "'one': its vector has" in refused(lambda: store.upsert([ONE], [bad]))
    assert "vector" in refused(lambda: store.search(bad, top=1))


@pytest.mark.parametrize("value", [math.nan, -math.inf, [1], object()])
def test_metadata_that_is_no_scalar_is_refused(store: VectorStore, value: Scalar) -> None:
    bad = Passage("one", "", metadata={"kind": value})
    assert "metadata 'kind' is " in refused(lambda: store.upsert([bad], [EAST]))
    assert run(store.count) == 0


def test_passages_without_vectors_are_refused(store: VectorStore) -> None:
    assert "1 passages came with 0 vectors" in refused(lambda: store.upsert([ONE], []))


def test_what_was_deleted_or_replaced_is_not_found_again(store: VectorStore) -> None:
    def found(**where: Scalar) -> list[str]:
        return [p.text for p in run(lambda: store.search(EAST, top=9, where=where or None))]

    places = {"c": "x.md", "a": "z.md", "b": "y.md"}  # in another order than the ids
    some = [Passage(i, i, places[i], metadata={"kind": i}) for i in places]
    run(lambda: store.upsert(some, [EAST] * 3))
    assert (found(), found(kind="a"), found(source="y.md")) == (["a", "b", "c"], ["a"], ["b"])
    run(lambda: store.upsert([Passage("a", "A", "z.md")], [EAST]))
    assert (found(), found(kind="a"), found(source="z.md")) == (["A", "b", "c"], [], ["A"])
    assert run(lambda: store.delete(where={"kind": "b", "source": "y.md"})) == 1
    assert (found(), found(kind="b"), found(kind="c")) == (["A", "c"], [], ["c"])
    assert run(lambda: store.delete(where={"source": 5})) == 0


@pytest.mark.parametrize(
    "bad",
    [
        Passage("\ud800", ""),
        Passage("one", "\ud800"),
        Passage("one", "", "\ud800"),
        Passage("one", "", metadata={"\ud800": 1}),
        Passage("one", "", metadata={"kind": "\ud800"}),
    ],
)
def test_what_no_text_can_be_is_refused(store: VectorStore, bad: Passage) -> None:
    good = Passage("good", "")
    message = refused(lambda: store.upsert([good, bad], [EAST] * 2))
    assert f"{bad.id!r} contains half of a character (a lone surrogate)" in message
    assert run(store.count) == 0


@pytest.mark.parametrize("value", [10**4300, -(10**4300)], ids=["plus", "minus"])
def test_an_integer_that_python_does_not_write_is_refused(store: VectorStore, value: int) -> None:
    most = Passage("most", "", metadata={"kind": 10**4300 - 1})
    run(lambda: store.upsert([most], [EAST]))
    (found,) = run(lambda: store.search(EAST, top=1))
    assert found.metadata == most.metadata
    bad = Passage("one", "", metadata={"kind": value})
    told = refused(lambda: store.upsert([bad], [EAST]))
    assert "'one': metadata 'kind' is an integer of more than 4,300 digits" in told


@pytest.mark.parametrize(
    "where",
    [
        {"source": "\ud800"},
        {"kind": "\ud800"},
        {"\ud800": 1},
        {"kind": 10**5000},
        {"kind": math.inf},
        {"kind": ["x"]},
        {"source": {"x": 1}},
    ],
)
def test_what_can_hardly_be_kept_is_not_found(store: VectorStore, where: Mapping[str, Any]) -> None:
    """A lone surrogate, which is half of a character, more digits than Python writes, and what is
    no scalar: a pipeline may hand on what a client has sent."""
    run(lambda: store.upsert([ONE], [EAST]))
    assert run(lambda: store.search(EAST, top=9, where=where)) == []


def test_what_is_not_there_is_not_none(store: VectorStore) -> None:
    some = [Passage("1", "", metadata={"kind": None}), Passage("2", "")]
    run(lambda: store.upsert(some, [EAST] * 2))
    (found,) = run(lambda: store.search(EAST, top=9, where={"kind": None}))
    assert found.id == "1"
    assert run(lambda: store.delete(where={"kind": None})) == 1


INJECTED = [
    'door" OR one',
    "door NOT one",
    "door* OR NEAR(one two)",
    "words:door",
    "-door",
    "door & !one | (two",
    "'door' <-> :*",
    "door\0one",
    "\ud800 door",
]


@pytest.mark.parametrize("query", INJECTED)
def test_a_query_has_no_syntax(store: VectorStore, query: str) -> None:
    """Whatever SQLite would read in it: only its words count."""
    some = [Passage("1", "the door"), Passage("2", "a window"), Passage("3", "one more")]
    run(lambda: store.upsert(some, [EAST] * 3))
    found = [each.id for each in run(lambda: store.search_keywords(query, top=9))]
    assert sorted(found) == (["1", "3"] if "one" in query else ["1"])


@pytest.mark.parametrize("query", ["", "?!", "\0", "\ud800", " \n", "🙂"])
def test_without_a_word_nothing_is_found_by_keywords(store: VectorStore, query: str) -> None:
    run(lambda: store.upsert([Passage("1", "the door? \0 🙂")], [EAST]))
    assert run(lambda: store.search_keywords(query, top=9)) == []


def test_an_identifier_is_found_before_its_parts(store: VectorStore) -> None:
    some = [
        Passage("1", "first the chunk, and then s: s is the first chunk of s"),
        Passage("2", "a long text with the setting first_chunk_s, which is in seconds, " * 3),
        Passage("3", "the error E-1234 is not E-1235", metadata={"heading": "Errors"}),
        Passage("4", "1234 is E more than 1233; errors"),
    ]
    run(lambda: store.upsert(some, [EAST] * 4))

    def best(query: str) -> str:
        return run(lambda: store.search_keywords(query, top=1))[0].id

    assert best("What is first_chunk_s?") == "2"
    assert best("first-chunk-s") == "2"
    assert best("I get error e1234!") == "3"
    assert best("ERRORS, in a heading E-1234") == "3"


def test_a_filter_holds_for_keyword_hits(store: VectorStore) -> None:
    """Also when what it leaves out ranks first, and fills `top`."""
    some = [Passage(f"{i}", "door door", metadata={"owner": "them"}) for i in range(3)]
    mine = [Passage("mine", "a door among many words", "one.md", metadata={"owner": "me"})]
    run(lambda: store.upsert([*some, *mine], [EAST] * 4))
    for where in ({"owner": "me"}, {"source": "one.md"}):
        found = run(lambda: store.search_keywords("door", top=1, where=where))
        assert [each.id for each in found] == ["mine"]
    assert run(lambda: store.search_keywords("door", top=1, where={"owner": "none"})) == []


def test_keywords_follow_what_is_replaced_and_deleted(store: VectorStore) -> None:
    """Also the weight of a word: what is gone does not count."""
    some = [Passage(f"{i}", "a door", metadata={"part": i}) for i in range(3)]

    def found(query: str) -> list[tuple[str, float]]:
        hits = run(lambda: store.search_keywords(query, top=9))
        return [(each.id, each.score) for each in hits]

    run(lambda: store.upsert(some[:2], [EAST] * 2))
    before = found("door")
    run(lambda: store.upsert(some[2:], [EAST]))
    assert [each for each, _ in found("door")] == ["0", "1", "2"]
    assert run(lambda: store.delete(where={"part": 2})) == 1
    assert found("door") == before
    run(lambda: store.upsert([Passage("0", "a wall")], [EAST]))
    assert [each for each, _ in found("door")] == ["1"]
    assert [each for each, _ in found("wall")] == ["0"]


def test_a_long_query_is_cut_and_not_refused(store: VectorStore) -> None:
    some = [Passage("1", "first"), Passage("2", "last"), Passage("3", "w127")]
    run(lambda: store.upsert(some, [EAST] * 3))
    many = " ".join(f"w{number}" for number in range(100_000))
    found = run(lambda: store.search_keywords(f"first {many} last", top=9))
    assert [each.id for each in found] == ["1"]
    assert run(lambda: store.search_keywords("x" * 10_000 + " last", top=9)) == []
    assert len(run(lambda: store.search_keywords(many, top=9))) == 1


def test_words_that_are_nearly_everywhere_are_left_out(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search counts a bounded number of hits: those of the rarest words."""
    monkeypatch.setattr(keywords, "HITS_MAX", 5)
    some = [Passage(f"{i}", f"the {'door' if i < 4 else 'wall'}") for i in range(9)]
    run(lambda: store.upsert(some, [EAST] * 9))

    def found(query: str) -> str:
        return "".join(each.id for each in run(lambda: store.search_keywords(query, top=99)))

    assert found("the door") == "0123"
    assert found("the wall") == "45678"
    assert found("door wall") == "0123"
    assert found("the") == ""


def test_words_are_counted_in_their_own_collection(
    several: SqliteStores | PostgresStores,
) -> None:
    """What others keep in the same file or database changes neither hits nor scores."""
    alone = MemoryStore()
    mine, other = several.collection("mine"), several.collection("other")
    some = [Passage("1", "a door"), Passage("2", "a wall")]
    stores: list[VectorStore] = [alone, mine]
    for store in stores:
        run(lambda: store.upsert(some, [EAST] * 2))
    run(lambda: other.upsert([Passage(f"{i}", "door " * i) for i in range(9)], [EAST] * 9))
    assert len(run(lambda: other.search_keywords("door", top=9))) == 8
    expected = run(lambda: alone.search_keywords("door", top=9))
    assert run(lambda: mine.search_keywords("door", top=9)) == expected
    assert [each.id for each in expected] == ["1"]


def test_keywords_of_a_collection_that_is_not_there(
    several: SqliteStores | PostgresStores,
) -> None:
    missing = several.collection("handbook")
    told = refused(lambda: missing.search_keywords("door", top=1))
    assert "orchestra ingest FOLDER --store handbook" in told
    assert "search(top=0)" in refused(lambda: missing.search_keywords("door", top=0))


def test_a_score_is_the_cosine_however_long_the_vectors_are(store: VectorStore) -> None:
    run(lambda: store.upsert([ONE], [Vector.of([1.05, 0.0])]))
    (found,) = run(lambda: store.search(Vector.of([7.0, 7.0]), top=1))
    assert found.score == pytest.approx(0.5**0.5)


def test_many_calls_at_once_are_as_if_one_after_the_other(store: VectorStore) -> None:
    counts = []

    async def write(name: str) -> None:
        passages = [Passage(f"{name}{i}", "", name) for i in range(200)]
        await store.upsert(passages, [EAST] * len(passages))
        found = await store.search(EAST, top=10**4, where={"source": name})
        assert len(found) == len(passages)
        counts.append(await store.count())
        if name < "d":
            assert await store.delete(where={"source": name}) == len(passages)

    async def main() -> int:
        await store.count()
        async with trio.open_nursery() as nursery:
            for name in "abcdefgh":
                nursery.start_soon(write, name)
        return await store.count()

    assert trio.run(main) == 5 * 200
    assert all(count % 200 == 0 for count in counts)


@pytest.mark.parametrize("bad", [0, 1])
def test_a_long_upsert_lets_others_go_on(store: VectorStore, bad: int) -> None:
    """Streams of other runs move while its passages are looked at; nothing is kept if one is bad."""
    many = [Passage(str(number), "") for number in range(2000)]
    vectors = [EAST] * (len(many) - bad) + [Vector.of([math.nan, 0.0])] * bad
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async def main() -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            with pytest.raises(StoreError) if bad else nullcontext():
                await store.upsert(many, vectors)
            nursery.cancel_scope.cancel()
        return await store.count()

    assert trio.run(main) == (0 if bad else len(many))
    assert turns >= 10  # 200 passages at once, at most


def test_what_a_caller_does_to_its_lists_meanwhile_changes_nothing(store: VectorStore) -> None:
    async def main() -> int:
        passages = [Passage(str(number), "") for number in range(300)]
        vectors = [EAST] * len(passages)

        async def emptied() -> None:
            passages.clear()
            vectors.clear()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(emptied)
            await store.upsert(passages, vectors)
        return await store.count()

    assert trio.run(main) == 300


def test_what_a_caller_does_to_its_metadata_later_changes_nothing(store: VectorStore) -> None:
    kept: dict[str, Scalar] = {"kind": "a"}
    run(lambda: store.upsert([Passage("one", "", metadata=kept)], [EAST]))
    kept["kind"] = "b"
    (found,) = run(lambda: store.search(EAST, top=1))
    assert found.metadata == {"kind": "a"}


@given(cancel_after=st.integers(0, 6))
@settings(max_examples=40, deadline=None)
def test_a_cancelled_upsert_happened_or_did_not(cancel_after: int) -> None:
    """All of a batch is there, or none of it, and the store goes on."""
    batch = [Passage(str(i), "") for i in range(1000)]  # long enough to be caught in the middle

    async def main(store: VectorStore) -> tuple[int, int]:
        await store.upsert([ONE], [EAST])
        await store.count()  # both connections are open
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.upsert, batch, [EAST] * len(batch))
            for _ in range(cancel_after):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        count = await store.count()
        await store.upsert([Passage("two", "")], [EAST])
        return count, await store.count()

    with tempfile.TemporaryDirectory() as folder, SqliteStores(Path(folder) / "s") as stores:
        for store in (MemoryStore(), stores.collection("handbook")):
            before, after = trio.run(main, store)
            assert before in (1, 1 + len(batch))
            assert after == before + 1
