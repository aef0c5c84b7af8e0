"""A request's settings for policies keep their meaning when the request is sent again."""

from __future__ import annotations

import pytest

from orchestra.policies.requests.extras import CACHE, EXTRAS, refreshed


@pytest.mark.parametrize(
    ("said", "anew"),
    [(None, "refresh"), ("use", "refresh"), ("refresh", "refresh"), ("off", "off")],
)
def test_who_asks_anew_is_given_no_kept_answer_and_keeps_none_they_did_not_want(
    said: str | None, anew: str
) -> None:
    extras = {EXTRAS: {"conversation": "c", **({CACHE: said} if said else {})}}
    assert refreshed(extras) == {EXTRAS: {"conversation": "c", CACHE: anew}}
