"""Two promises of a `VectorStore`, which `check_store` checks (see contracts.py)."""

from __future__ import annotations

from orchestra.errors import StoreError
from orchestra.protocols import VectorStore as Store
from orchestra.steps.retrieve import has_keyword_search
from orchestra.values import Passage, Scalar, Vector


async def finds_by_keywords(store: Store) -> None:
    """Check `search_keywords`, unless the store leaves it out: three passages, "A" to "C"."""
    if not has_keyword_search(store):
        return
    expected: list[tuple[str, dict[str, Scalar], list[str]]] = [
        ("B", {}, ["b"]),
        ("B or C?", {}, ["b", "c"]),
        ("B or C?", {"source": "two.md"}, ["c"]),
        ("B or C?", {"kind": "x"}, ["b"]),
        ("D", {}, []),
        ("?", {}, []),
    ]
    for query, where, ids in expected:
        found = await store.search_keywords(query, top=9, where=where)
        of = sorted(each.id for each in found)
        call = f"search_keywords({query!r}, where={where!r})"
        assert of == ids, f"{call} found {of}, not {ids}"
        scores = [each.score for each in found]
        assert scores == sorted(scores, reverse=True), f"{call} is not best first: {scores}"
        few = await store.search_keywords(query, top=1, where=where)
        assert few == found[:1], f"{call}, top=1: it found {few!r:.300}, not {found[:1]!r:.300}"


async def refused(store: Store, passages: list[Passage], vectors: list[Vector]) -> None:
    """Check that an upsert of these is a StoreError, in a collection of three passages."""
    try:
        await store.upsert(passages, vectors)
    except StoreError:
        return
    raise AssertionError(
        f"upsert of {len(passages)} passages with vectors of {list(map(len, vectors))} numbers, in "
        "a collection of 3, was not refused"
    )
