"""A request's body: whole where it is wanted, and no memory of it where it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import RequestEntityTooLarge

from orchestra.server.front.departure import ArrivingBody


@given(st.lists(st.binary(max_size=8)), st.lists(st.binary(max_size=8)))
def test_of_a_body_that_was_discarded_nothing_is_kept(
    before: list[bytes], after: list[bytes]
) -> None:
    body = ArrivingBody(None, None)
    for each in before:
        body.append(each)
    body.discard()
    for each in after:
        body.append(each)
    body.set_complete()
    assert not body._data
    assert body.here() is None


def test_a_body_that_is_too_large_stays_so() -> None:
    body = ArrivingBody(9, 8)
    body.discard()
    with pytest.raises(RequestEntityTooLarge):
        body.__await__().send(None)
