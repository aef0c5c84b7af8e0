"""Exact search over one collection: its vectors as a numpy matrix, its metadata as columns.

An index is what the collection was at one version; when that has passed, it is
thrown away. Rows stand in the order of the passages' ids, so the earlier row wins a tie.

The search is exact though the matrix is float32: the fast product only rules out
what its own rounding error cannot bring back; the rest is compared in float64.
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
"""Keys of metadata that an index is filtered by; clients may choose them."""
ROWS_AT_ONCE = 1024
"""How many vectors are joined before they are copied: 1 MB at 256 dimensions."""


@attrs.define(eq=False)
class Index:
    """The vectors of one collection at one version; `keys` are the store's own, by row."""

    version: object
    keys: NDArray[np.int64]
    matrix: NDArray[np.float32]
    _columns: dict[str, dict[Scalar, Rows]] = attrs.field(factory=dict, init=False)

    @property
    def size_bytes(self) -> int:
        """The memory that the vectors take; metadata that was filtered by comes on top."""
        return int(self.matrix.nbytes + self.keys.nbytes)

    def rows(self, where: Mapping[str, Scalar], described: Callable[[], Described]) -> Rows | None:
        """The rows that match, in order, or None for all of them.

        A key's column is made from `described` when it is first asked for, and kept until
        `COLUMNS_MAX` others were made after it.
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
            except TypeError:  # a list, as a client may send one, which no dict is asked for
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
            chosen = np.flatnonzero(rough >= bar - _error_max(len(exact)))
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
    """The indexes of the collections that were searched last, within a number of bytes.

    The one searched longest ago is forgotten first; one alone is kept whatever its size.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held: OrderedDict[str, Index] = OrderedDict()  # last searched last

    def get(self, name: str, version: object, make: Callable[[], Index]) -> Index:
        """The collection's index, from `make` if none of this version is held."""
        index = self._held.pop(name, None)
        if index is None or index.version != version:
            index = None  # forgotten before the next is made, so that there are never two
            index = make()
        self._held[name] = index
        while len(self._held) > 1 and self.size_bytes > self._bytes_max:
            self._held.popitem(last=False)
        return index

    @property
    def size_bytes(self) -> int:
        """The memory that the held vectors take."""
        return sum(index.size_bytes for index in self._held.values())

    def clear(self) -> None:
        """Forget all."""
        self._held.clear()


def load(
    version: object, count: int, dimensions: int, stored: Iterable[list[tuple[int, bytes]]]
) -> Index:
    """The index of `count` vectors that arrive in lists of `ROWS_AT_ONCE` keys and bytes."""
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
    """Each value of a metadata key, with the rows that have it.

    A dict finds keys by `==`, which is what `where` promises.
    """
    import numpy as np

    rows: dict[Scalar, list[int]] = {}
    for row, (source, metadata) in enumerate(described):
        if key == "source":
            rows.setdefault(source, []).append(row)
        elif key in metadata:
            rows.setdefault(metadata[key], []).append(row)
    return {value: np.array(which, np.intp) for value, which in rows.items()}


def _error_max(dimensions: int) -> float:
    """Twice what two float32 products of unit vectors can be wrong by (Higham, 3.1)."""
    return 2 * (dimensions + 2) * 2.0**-23
