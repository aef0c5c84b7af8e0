"""Classes of values: what they show is what attrs would show."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.eventclass import event, frozen


def made_by(decorator: Any) -> Any:
    @decorator
    class Thing:
        one: object
        _other: object = 2
        secret: str = attrs.field(default="s", repr=False)
        short: str = attrs.field(default="abc", repr=lambda text: text[:1])

    return Thing


@given(st.recursive(st.integers() | st.text(), st.lists), st.text())
def test_a_value_shows_what_attrs_would_show(one: object, other: str) -> None:
    for ours, theirs in ((frozen, attrs.frozen), (event, attrs.define)):
        shown = repr(made_by(ours)(made_by(ours)(one, other), 3))
        assert shown == repr(made_by(theirs)(made_by(theirs)(one, other), 3))


def test_it_is_frozen_and_takes_what_attrs_takes() -> None:
    @frozen(eq=False)
    class Own:
        name: str

        def __repr__(self) -> str:
            return f"<{self.name}>"

    assert repr(Own("a")) == "<a>"
    assert Own("a") != Own("a")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Own("a").name = "b"  # type: ignore[misc]
