"""Which part of a value does not fit: the place, what it has to be, and the part itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.annotations.acceptance import accepts, misfit


@attrs.frozen
class Order:
    """Not made from a dict by itself."""

    number: int


class Line(TypedDict):
    """A dict with named members."""

    texts: list[str]


@given(st.lists(st.lists(st.integers() | st.text())))
def test_the_place_leads_to_a_part_that_does_not_fit(rows: list[list[int | str]]) -> None:
    """Followed as Python, the place gives the very part; before it, everything fits."""
    where, wanted, held = misfit(list[list[int]], rows)
    if accepts(list[list[int]], rows):
        assert (where, wanted, held) == ("", list[list[int]], rows)
        return
    assert wanted is int
    assert isinstance(held, str)
    assert eval(f"rows{where}") is held
    assert accepts(list[list[int]], rows[: int(where[1 : where.index("]")])])


@pytest.mark.parametrize(
    ("target", "value", "told"),
    [
        (list[Order], [Order(1), {"number": 2}], ("[1]", Order, {"number": 2})),
        (dict[str, list[int]], {"a": [1], "b": [2, "3"]}, ("['b'][1]", int, "3")),
        (Mapping[str, int], {"a": None}, ("['a']", int, None)),
        (tuple[int, str], (1, 2), ("[1]", str, 2)),
        (tuple[int, ...], (1, "2"), ("[1]", int, "2")),
        (Sequence[int] | None, [1, "2"], ("[1]", int, "2")),
        (Line, {"texts": [1]}, ("['texts'][0]", str, 1)),
        (list[int], "12", ("", list[int], "12")),
        (tuple[int, str], (1,), ("", tuple[int, str], (1,))),
        (tuple[int, str], ("1",), ("", tuple[int, str], ("1",))),
        (set[int], {"1"}, ("", set[int], {"1"})),
        (list[int] | list[str], [1, "2"], ("", list[int] | list[str], [1, "2"])),
        (Iterable[str], b"12", ("", Iterable[str], b"12")),
        (dict[int, int], {"1": 1}, ("", dict[int, int], {"1": 1})),
    ],
)
def test_the_innermost_part_with_a_place_is_told(
    target: Any, value: Any, told: tuple[str, object, object]
) -> None:
    assert misfit(target, value) == told


def test_a_value_whose_own_methods_fail_is_told_as_a_whole() -> None:
    class Broken(list[int]):
        """It cannot be gone through."""

        def __iter__(self) -> Any:
            raise OSError("gone")

    broken = Broken()
    assert misfit(list[int], broken) == ("", list[int], broken)
