"""The matrix: exact whatever float32 makes of it, and within its bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.stores.index import COLUMNS_MAX, ROWS_AT_ONCE, Cache, Index, load
from orchestra.values import Vector


def index_of(matrix: np.ndarray, version: int = 1) -> Index:
    rows = [(10 * i, row.astype("<f4").tobytes()) for i, row in enumerate(matrix)]
    lists = [rows[i : i + ROWS_AT_ONCE] for i in range(0, len(rows), ROWS_AT_ONCE)]
    return load(version, len(rows), matrix.shape[1], lists)


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 3000),
    spread=st.sampled_from([1.0, 1e-3, 3e-4, 1e-4, 3e-5]),
    top=st.integers(1, 20),
    share=st.sampled_from([None, 0.0, 0.01, 0.5, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_the_fast_search_finds_what_comparing_all_in_float64_finds(
    seed: int, count: int, spread: float, top: int, share: float | None
) -> None:
    """Also where the vectors are so near that float32 cannot tell them apart."""
    random = np.random.default_rng(seed)
    matrix = 1 + spread * random.standard_normal((count, 64))
    matrix = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)
    query = Vector(matrix[0].astype("<f4").tobytes())
    rows = None if share is None else np.flatnonzero(random.random(count) < share)

    cosines = (matrix.astype(float) * matrix[0].astype(float)).sum(axis=1)
    scores = np.round(np.clip(cosines, -1, 1), 9)
    among = range(count) if rows is None else rows.tolist()
    expected = sorted(among, key=lambda row: (-scores[row], row))[:top]

    found = index_of(matrix).nearest(query, top, rows)
    assert [key for key, _ in found] == [10 * row for row in expected]
    assert [score for _, score in found] == pytest.approx(scores[expected].tolist())


@given(st.permutations(range(2 * COLUMNS_MAX)))
@settings(deadline=None)
def test_whatever_keys_are_asked_for_few_columns_are_kept(keys: list[int]) -> None:
    """A pipeline may let its clients name them."""
    index = index_of(np.eye(3))
    for key in (*keys, *keys[:9]):
        rows = index.rows({f"k{key}": 1}, lambda: [("a", {f"k{n}": n % 2}) for n in range(3)])
        assert rows is not None
        assert rows.tolist() == ([key] if key < 3 and key % 2 else [])
    assert len(index._columns) <= COLUMNS_MAX


def test_a_column_is_read_once_and_only_when_asked_for() -> None:
    reads = []

    def described() -> list[tuple[str, dict[str, str]]]:
        reads.append(1)
        return [("a.md", {"kind": "x"}), ("b.md", {}), ("a.md", {"kind": "y"})]

    index = index_of(np.eye(3))
    assert index.rows({}, described) is None
    assert reads == []
    for _ in range(2):
        rows = index.rows({"source": "a.md", "kind": "y"}, described)
        assert rows is not None
        assert rows.tolist() == [2]
    assert len(reads) == 2


def test_the_cache_forgets_what_was_searched_longest_ago() -> None:
    size = index_of(np.eye(4)).size_bytes
    cache = Cache(2 * size)
    for name in ("a", "b", "a", "c"):
        cache.get(name, 1, lambda: index_of(np.eye(4)))
    assert cache.size_bytes == 2 * size
    made: list[str] = []

    def make(name: str) -> Index:
        made.append(name)
        return index_of(np.eye(4))

    for name in ("a", "c", "b"):
        cache.get(name, 1, lambda: make(name))
    assert made == ["b"]
    cache.clear()
    assert cache.size_bytes == 0


def test_one_collection_is_kept_whatever_its_size_and_until_it_changes() -> None:
    cache = Cache(0)
    first = cache.get("a", 1, lambda: index_of(np.eye(4)))
    assert cache.get("a", 1, lambda: index_of(np.eye(4))) is first
    assert cache.get("a", 2, lambda: index_of(np.eye(4), version=2)).version == 2
