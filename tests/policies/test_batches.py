"""Batches: no text is lost, and none goes with more than one call may have."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestra.policies.batches import BatchSize
from orchestra.policies.requests.tokens import text_tokens

sizes = st.builds(BatchSize, st.integers(1, 5), st.none() | st.integers(1, 12))


@given(sizes, st.lists(st.text(max_size=30), max_size=20))
def test_texts_are_cut_in_their_order_into_as_few_batches_as_it_takes(
    size: BatchSize, texts: list[str]
) -> None:
    batches = size.batches(texts)
    assert [text for batch in batches for text in batch] == texts

    def fits(batch: tuple[str, ...]) -> bool:
        tokens = sum(map(text_tokens, batch))
        return len(batch) <= size.texts_max and (
            size.tokens_max is None or tokens <= size.tokens_max
        )

    for batch in batches:
        assert fits(batch) or len(batch) == 1, "what is too long alone goes alone"
    for batch, following in pairwise(batches):
        assert not fits((*batch, following[0])), "there was no room for one more"
