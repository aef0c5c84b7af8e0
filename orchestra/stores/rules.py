"""The rules that all stores share: what may be stored, what `where` means, how scores compare.

Pure, except that `checked` has checkpoints. All stores use these functions for their decisions, so
that a test that passes with one store passes with every other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import trio

from orchestra.errors import StoreError
from orchestra.surrogates import is_utf8
from orchestra.values import Metadata, Passage, Scalar, Vector

# Two embeddings of one text differ by about 1e-7 (float32), and two orders of summing the same
# products in float64 by 1e-15. So scores that are equal to nine places are a tie, broken by id.
SCORE_PLACES = 9
_DIGITS_MAX = 4300
"""By default, Python converts integers to and from text only up to this many digits."""
_TOO_LARGE = 10**_DIGITS_MAX
CHECKED_AT_ONCE = 100
"""Passages that are checked between two checkpoints: about 2 ms, in which all other tasks wait."""


def unit(vector: Vector, what: str) -> Vector:
    """The vector scaled to length 1; a vector of zeros is returned unchanged.

    Only directions are stored, since the cosine does not depend on the length.

    Raises:
        StoreError: a number is NaN or infinite, or the vector is empty; the message begins with
            `what`.
    """
    length = math.hypot(*vector)
    if not math.isfinite(length) or not vector.data:
        numbers = "no numbers" if not vector.data else "a number that is NaN or infinite"
        raise StoreError(f"{what} has {numbers}; correct the embedder that made it")
    if length == 0 or abs(length - 1) < 1e-6:  # noqa: PLR2004 - as near as float32 gets
        return vector
    return Vector.of([number / length for number in vector])


async def checked(
    place: str, passages: Sequence[Passage], vectors: Sequence[Vector]
) -> list[tuple[Passage, Vector]]:
    """Check that all passages can be stored, and return each with its vector at unit length.

    Has at least one checkpoint, and one more after each `CHECKED_AT_ONCE` passages.

    Raises:
        StoreError: the numbers of passages and vectors differ, the vectors differ in
            length, or a vector, a text or a metadata value cannot be stored.
    """
    if len(passages) != len(vectors):
        raise StoreError(
            f"{place}: {len(passages)} passages came with {len(vectors)} vectors; "
            "give one vector for each passage, in the same order"
        )
    given = list(zip(passages, vectors, strict=True))  # the caller's lists may change meanwhile
    size = len(vectors[0]) if given else 0
    await trio.lowlevel.checkpoint()
    pairs = []
    for number, (passage, vector) in enumerate(given, 1):
        if number % CHECKED_AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
        what = f"{place}: passage {passage.id!r}"
        check_dimensions(what, expected=size, given=len(vector))
        _check_texts(what, passage)
        _check_metadata(what, passage.metadata)
        pairs.append((passage, unit(vector, f"{what}: its vector")))
    return pairs


def check_dimensions(place: str, *, expected: int, given: int) -> None:
    """Check that a vector has the `expected` number of dimensions; `given` is what it has.

    Raises:
        StoreError: the numbers differ.
    """
    if given != expected:
        raise StoreError(
            f"{place}: the vector has {given} dimensions, where the others have {expected}; "
            "use the embedder that the collection was made with, or ingest into a new collection"
        )


def missing(place: str, name: str, holder: str, there: Sequence[str]) -> StoreError:
    """The error for a collection that does not exist; the file or database `holder` has `there`."""
    listed = ", ".join(map(repr, there)) or "none"
    return StoreError(
        f"{place} does not exist; {holder} has {listed}; make it with `orchestra ingest FOLDER "
        f"--store {name}`"
    )


def check_top(place: str, top: int) -> None:
    """Check that `top`, the number of passages to find, is valid.

    Raises:
        StoreError: `top` is less than 1.
    """
    if top < 1:
        raise StoreError(f"{place}: search(top={top}) finds nothing; write top=1 or more")


def matches(source: str, metadata: Metadata, where: Mapping[str, Scalar]) -> bool:
    """Whether a passage has every key of `where`, each with an equal (`==`) value."""
    return all(
        source == value if key == "source" else key in metadata and metadata[key] == value
        for key, value in where.items()
    )


def score(cosine: float) -> float:
    """A cosine as the score of a passage: between -1 and 1, and rounded, so that ties are equal."""
    return round(max(-1.0, min(1.0, cosine)), SCORE_PLACES) + 0.0  # + 0.0: never -0.0


def error_max(dimensions: int) -> float:
    """Twice the most that two float32 products of unit vectors can be wrong by (Higham, 3.1)."""
    return 2 * (dimensions + 2) * 2.0**-23


def digests(pairs: Iterable[tuple[str, Scalar]]) -> dict[str, str]:
    """The digest of each source; `pairs` has the source and the digest of each passage.

    The digest is "" if the passages of a source differ in it. A source whose passages have no
    digest is left out.
    """
    found: dict[str, set[Scalar]] = {}
    for source, digest in pairs:
        found.setdefault(source, set()).add(digest if isinstance(digest, str) else None)
    return {
        source: str(next(iter(several))) if len(several) == 1 else ""
        for source, several in found.items()
        if several != {None}
    }


def _check_texts(what: str, passage: Passage) -> None:
    texts = (text for text in chain(*passage.metadata.items()) if isinstance(text, str))
    if not all(map(is_utf8, (passage.id, passage.source, passage.text, *texts))):
        raise StoreError(f"{what} contains half of a character (a lone surrogate); remove it")


def _check_metadata(what: str, metadata: Metadata) -> None:
    for key, value in metadata.items():
        good = value is None or isinstance(value, str | int | float)
        if not good or (isinstance(value, float) and not math.isfinite(value)):
            raise StoreError(
                f"{what}: metadata {key!r} is {value!r}; write a string, a finite number, "
                "a bool or None"
            )
        if isinstance(value, int) and abs(value) >= _TOO_LARGE:
            raise StoreError(
                f"{what}: metadata {key!r} is an integer of more than {_DIGITS_MAX:,} digits; "
                "write it as a string"
            )
