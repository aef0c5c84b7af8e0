"""Rankings: a query with texts to put in order, and the order that a rerank model gives. Pure.

Rules of the file: an order is used only if it is certain which text each score belongs to; an
answer that leaves a doubt is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from math import isfinite
from numbers import Integral, Real
from typing import TypeAlias

import attrs

from orchestra.accounts import Usage
from orchestra.errors import MalformedStreamError
from orchestra.eventclass import frozen
from orchestra.values import NO_EXTRAS, ChatRequest, EmbedRequest, Extras


@frozen
class RerankRequest:
    """A query, and the texts to order by their relevance to it; with `top`, only the best of them.

    `top` is from 1 to the number of texts.
    """

    query: str
    texts: tuple[str, ...]
    top: int | None = None
    extras: Extras = NO_EXTRAS

    @property
    def wanted(self) -> int:
        """How many of the texts are wanted."""
        return len(self.texts) if self.top is None else min(self.top, len(self.texts))


AnyRequest: TypeAlias = ChatRequest | EmbedRequest | RerankRequest
"""A request of any kind to a model."""


@frozen
class Ranked:
    """One text of a request: its index in `RerankRequest.texts`, and its score.

    Scores of one model can be compared for one query: a higher one is more relevant. Their range
    depends on the model.
    """

    index: int
    score: float


@frozen
class Ranking:
    """The answer of a rerank model, best text first.

    `searches` are the search units that the provider bills, if it counts them.
    """

    results: tuple[Ranked, ...]
    usage: Usage | None = None
    model: str = ""
    searches: int | None = None


def parted(request: RerankRequest, most: int | None) -> list[RerankRequest]:
    """The request in parts of at most `most` texts, each of which wants all of its texts.

    A request with fewer texts, or any if `most` is None, is its only part.
    """
    texts = request.texts
    if most is None or len(texts) <= most:
        return [request]
    starts = range(0, len(texts), most)
    return [attrs.evolve(request, texts=texts[at : at + most], top=None) for at in starts]


def joined(
    request: RerankRequest, answers: Iterable[tuple[RerankRequest, Ranking]]
) -> tuple[Ranked, ...]:
    """The wanted results of all parts of a request, best first; equal scores in order of the parts.

    `answers` has each part with its ranking, in order. Scores of different parts are compared, so a
    text's score must not depend on the other texts of its part.
    """
    found, start = list[Ranked](), 0
    for part, ranking in answers:
        found += (Ranked(start + each.index, each.score) for each in ranking.results)
        start += len(part.texts)
    return best(request, found)


def best(request: RerankRequest, results: Iterable[Ranked]) -> tuple[Ranked, ...]:
    """The wanted results of an answer, best first; equal scores keep the order of the answer.

    An answer has the wanted texts or, from a server that does not know `top`, all of them.

    Raises:
        MalformedStreamError: a text has no score, or has two; an index is not that of a text; or
            the number of results is another one.
    """
    count = len(request.texts)
    found = [Ranked(_index(each.index, count), _score(each)) for each in results]
    if len({each.index for each in found}) < len(found):
        indexes = [each.index for each in found]
        raise MalformedStreamError(f"the ranking has a text more than once: {indexes!r:.200}")
    if len(found) not in (request.wanted, count):
        raise MalformedStreamError(
            f"the ranking has {len(found)} results for {count} texts, of which "
            f"{request.wanted} were wanted"
        )
    return tuple(sorted(found, key=lambda each: -each.score)[: request.wanted])


def _index(index: object, count: int) -> int:
    if not isinstance(index, bool) and isinstance(index, Integral) and 0 <= int(index) < count:
        return int(index)
    raise MalformedStreamError(
        f"the ranking has a result with index {index!r:.40}, but the {count} texts have the "
        f"indexes 0 to {count - 1}"
    )


def _score(result: Ranked) -> float:
    """The score as a float: an own class may have one of NumPy, which no cache can write."""
    score: object = result.score
    with suppress(OverflowError):
        if isinstance(score, Real) and isfinite(score):
            return float(score)
    raise MalformedStreamError(
        f"the ranking gives text {result.index} the score {score!r:.40}, which is not a finite "
        "number"
    )
