"""The opening of an answer: nothing of it is lost while its first content is waited for."""

from __future__ import annotations

import attrs
import pytest
import trio

from orchestra.accounts import Usage
from orchestra.citations import Citation, Cited
from orchestra.errors import MalformedStreamError, TruncatedStreamError
from orchestra.logprobs import Logprobs, TokenLogprob
from orchestra.providers.opening import BATCHES_MAX, Opening
from orchestra.values import Began, ModelEvent, TextDelta, UsageReport

HELD = (Began("1", "m"), UsageReport(Usage(1, 2)))


@attrs.define
class Reply:
    batches: list[tuple[ModelEvent, ...]]

    async def receive(self) -> tuple[ModelEvent, ...]:
        await trio.lowlevel.checkpoint()
        return self.batches.pop(0) if self.batches else ()


def opened(*batches: tuple[ModelEvent, ...]) -> tuple[ModelEvent, ...]:
    return trio.run(Opening().wait, Reply([*batches]))


def likely(token: str) -> Logprobs:
    return Logprobs((TokenLogprob(token, -0.5),))


def test_what_comes_before_the_first_content_comes_with_it() -> None:
    text = TextDelta("ab")
    found = opened(HELD, (likely("a"),), (likely("b"), text), (TextDelta("c"),))
    assert found == (*HELD, likely("a"), likely("b"), text)


def test_citations_do_not_begin_an_answer_and_are_not_lost() -> None:
    """OpenRouter's come before the text: what fails behind them may be asked of another."""
    first, second = (Cited((Citation(0, 0, source=each),)) for each in "ab")
    text = TextDelta("ab")
    assert opened((first,), (second, text)) == (first, second, text)
    with pytest.raises(TruncatedStreamError):
        opened((first,))


def test_an_answer_that_only_cites_has_a_bound() -> None:
    cited = Cited((Citation(0, 0, "x" * 2**20),))
    with pytest.raises(MalformedStreamError, match="began with 67108864 bytes of citations"):
        opened(*[(cited,)] * 64)


def test_an_answer_that_ends_before_it_began_is_cut() -> None:
    with pytest.raises(TruncatedStreamError, match="ended before its first content"):
        opened(HELD)


def test_an_answer_that_says_nothing_is_not_waited_for_without_end() -> None:
    with pytest.raises(MalformedStreamError, match="batches of the answer had no content"):
        opened(*[HELD] * (BATCHES_MAX + 1))
