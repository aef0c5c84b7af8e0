"""Batches: the texts that go into one embedding call, and several such calls at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import attrs

from orchestra.groups import groupless_nursery
from orchestra.policies.requests.tokens import text_tokens

T = TypeVar("T")
U = TypeVar("U")


@attrs.frozen
class BatchSize:
    """The limits of one embedding call: a number of texts, and a number of estimated tokens.

    None is no limit.
    """

    texts_max: int
    tokens_max: int | None = None

    def batches(self, texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """The texts in order, in as few batches as possible; none is empty.

        A text with more tokens than allowed is a batch of its own: its provider says what is wrong.
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


async def in_order(act: Callable[[T], Awaitable[U]], items: Sequence[T], at_once: int) -> list[U]:
    """The results of `act` for all items, in their order; at most `at_once` run at a time.

    They start in order. When one fails, or the caller is cancelled, all are cancelled.

    Raises:
        Exception: the error of the first to fail, without a group.
    """
    found, failed, places = dict[int, U](), list[Exception](), iter(range(len(items)))

    async def work() -> None:
        for at in places:
            try:
                found[at] = await act(items[at])
            except Exception as error:  # noqa: BLE001 - raised below, with no group around it
                failed.append(error)
                nursery.cancel_scope.cancel()

    async with groupless_nursery() as nursery:
        for _ in range(min(at_once, len(items))):
            nursery.start_soon(work)
    if failed:
        raise failed[0]
    return [found[at] for at in range(len(items))]
