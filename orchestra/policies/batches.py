"""Batches: the texts that go into one embedding call, and the usage of several calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from orchestra.accounts import Usage
from orchestra.policies.answers.accounting import as_partial
from orchestra.policies.requests.tokens import text_tokens


@attrs.frozen
class BatchSize:
    """The limits of one embedding call: a number of texts, and a number of estimated tokens.

    None means no limit on tokens.
    """

    texts_max: int
    tokens_max: int | None = None

    def batches(self, texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Split the texts, in order, into as few batches as possible; no batch is empty.

        A text with more than `tokens_max` tokens is a batch of its own: the provider's error then
        says what is wrong.
        """
        if self.tokens_max is None:
            starts = range(0, len(texts), self.texts_max)
            return tuple(tuple(texts[at : at + self.texts_max]) for at in starts)
        return tuple(self._measured(texts, self.tokens_max))

    def _measured(self, texts: Sequence[str], tokens_max: int) -> Iterator[tuple[str, ...]]:
        batch, tokens = list[str](), 0
        for text in texts:
            more = text_tokens(text)
            if batch and (len(batch) == self.texts_max or tokens + more > tokens_max):
                yield tuple(batch)
                batch, tokens = [], 0
            batch.append(text)
            tokens += more
        if batch:
            yield tuple(batch)


def total_usage(usages: Sequence[Usage | None]) -> Usage | None:
    """The usage of several calls; not exact if that of some is unknown, None if all are."""
    known = [each for each in usages if each is not None]
    if not known:
        return None
    whole = sum(known[1:], known[0])
    return whole if len(known) == len(usages) else as_partial(whole)
