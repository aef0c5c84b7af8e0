"""What a store holds, in numbers: for operators, who list and remove stores. Pure."""

from __future__ import annotations

import attrs


@attrs.frozen
class StoreSummary:
    """The name of a store, and how much is in it.

    `sources` are different documents. `dimensions` is None if the store is empty, or does not tell.
    """

    name: str
    passages: int
    sources: int
    dimensions: int | None = None

    @classmethod
    def of(cls, name: str, passages: int, sources: int, dimensions: int) -> StoreSummary:
        """The summary of a collection, which may still have dimensions when it is empty."""
        return cls(name, passages, sources, dimensions if passages else None)
