"""Exact search over one collection: its vectors as a numpy matrix, its metadata as columns.

An index is a snapshot of one version of a collection; it is thrown away when the collection has
changed. Rows are in the order of the passages' ids, so the earlier row wins a tie.

The search is exact, although the matrix is float32: the fast product in float32 only excludes rows
that are too far away even if its rounding error was at its largest. The remaining rows are compared
in float64.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import attrs

from orchestra.stores import rules
from orchestra.values import Metadata, Scalar, Vector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows: TypeAlias = NDArray[np.intp]

Described: TypeAlias = Iterable[tuple[str, Metadata]]
"""The source and metadata of every row, in order."""

COLUMNS_MAX = 32
"""The most metadata keys for which an index keeps a column; clients may choose the keys."""
ROWS_AT_ONCE = 1024
"""How many vectors are joined before they are copied into the matrix: 1 MB at 256 dimensions."""


@attrs.define(eq=False)
class Index:
    """The vectors of one collection at one version; `keys` has the store's own key of each row."""

    version: object
    keys: NDArray[np.int64]
    matrix: NDArray[np.float32]
    _columns: dict[str, dict[Scalar, Rows]] = attrs.field(factory=dict, init=False)

    @property
    def size_bytes(self) -> int:
        """The memory that the vectors take, without the columns of metadata."""
        return int(self.matrix.nbytes + self.keys.nbytes)

    def rows(self, where: Mapping[str, Scalar], described: Callable[[], Described]) -> Rows | None:
        """The rows that match `where`, in order; None means all rows.

        The column of a metadata key is built from `described` when it is first needed, and kept
        until `COLUMNS_MAX` other columns were built after it.
        """
        import numpy as np

        found: Rows | None = None
        for key, value in where.items():
            column = self._columns.get(key)
            if column is None:
                column = self._columns[key] = _column(key, described())
                if len(self._columns) > COLUMNS_MAX:
                    del self._columns[next(iter(self._columns))]
            try:
                these = column.get(value, np.empty(0, np.intp))
            except TypeError:  # the value is not hashable, such as a list that a client has sent
                these = np.empty(0, np.intp)
            found = these if found is None else np.intersect1d(found, these, assume_unique=True)
        return found

    def nearest(self, query: Vector, top: int, rows: Rows | None) -> list[tuple[int, float]]:
        """The keys and scores of the `top` rows nearest to a unit vector, nearest first."""
        import numpy as np

        exact = np.frombuffer(query.data, "<f4").astype(np.float64)
        rough = self._rough(exact.astype(np.float32), rows)
        if top < len(rough):
            bar = np.partition(rough, len(rough) - top)[len(rough) - top]
            chosen = np.flatnonzero(rough >= bar - rules.error_max(len(exact)))
        else:
            chosen = np.arange(len(rough))
        rows = chosen if rows is None else rows[chosen]
        cosines = np.einsum("ij,j->i", self.matrix[rows], exact, dtype=np.float64)
        scores = np.round(np.clip(cosines, -1, 1), rules.SCORE_PLACES) + 0.0  # as rules.score
        best = np.argsort(-scores, kind="stable")[:top]
        return list(zip(self.keys[rows[best]].tolist(), scores[best].tolist(), strict=True))

    def _rough(self, query: NDArray[np.float32], rows: Rows | None) -> NDArray[np.float32]:
        if rows is None:
            return self.matrix @ query
        if len(rows) * 8 < len(self.matrix):  # copying rows costs about eight times their product
            return self.matrix[rows] @ query
        return (self.matrix @ query)[rows]


class Cache:
    """An LRU cache for the indexes of collections, of at most `bytes_max` bytes.

    The index that was searched longest ago is dropped first; the last one is kept whatever its
    size.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held: OrderedDict[str, Index] = OrderedDict()  # the one searched last is last

    def get(self, name: str, version: object, make: Callable[[], Index]) -> Index:
        """The index of a collection at this version, made with `make` if it is not in the cache."""
        index = self._held.pop(name, None)
        if index is None or index.version != version:
            index = None  # freed before the next one is made, so that memory never holds both
            index = make()
        self._held[name] = index
        while len(self._held) > 1 and self.size_bytes > self._bytes_max:
            self._held.popitem(last=False)
        return index

    @property
    def size_bytes(self) -> int:
        """The memory that the vectors in the cache take."""
        return sum(index.size_bytes for index in self._held.values())

    def clear(self) -> None:
        """Drop all indexes."""
        self._held.clear()


def load(
    version: object, count: int, dimensions: int, stored: Iterable[list[tuple[int, bytes]]]
) -> Index:
    """Make an index of `count` vectors.

    `stored` has lists of keys and vector bytes, in the order of the rows, of at most `ROWS_AT_ONCE`
    each.
    """
    import numpy as np

    keys = np.empty(count, np.int64)
    matrix = np.empty((count, dimensions), np.float32)
    start = 0
    for some in stored:
        end = start + len(some)
        keys[start:end] = [key for key, _ in some]
        joined = np.frombuffer(b"".join(data for _, data in some), "<f4")
        matrix[start:end] = joined.reshape(-1, dimensions)
        start = end
    return Index(version, keys, matrix)


def _column(key: str, described: Described) -> dict[Scalar, Rows]:
    """The column of a metadata key: each of its values, with the rows that have it.

    A dict compares keys with `==`, which is what `where` promises.
    """
    import numpy as np

    rows: dict[Scalar, list[int]] = {}
    for row, (source, metadata) in enumerate(described):
        if key == "source":
            rows.setdefault(source, []).append(row)
        elif key in metadata:
            rows.setdefault(metadata[key], []).append(row)
    return {value: np.array(which, np.intp) for value, which in rows.items()}
