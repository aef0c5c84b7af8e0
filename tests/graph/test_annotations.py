"""What the compiler reads from annotations: the laws, then examples."""

from __future__ import annotations

import collections
import inspect
import typing
from collections import abc
from typing import Annotated, Any, ClassVar, Generic, Literal

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import DefinitionError
from orchestra.graph.annotations import (
    MISSING,
    Fit,
    accepts,
    chunk_of,
    compare,
    element,
    hints,
    item,
    member,
    spell,
    yielded,
)
from orchestra.protocols import Model, Stream
from orchestra.values import Certainty, ChatRequest, Label, Metadata, Passage, Role, Vector
from tests.graph import kinds
from tests.graph.kinds import (
    ANNOTATIONS,
    Animal,
    Anything,
    B,
    Bag,
    Box,
    Colour,
    IntBox,
    Movie,
    Names,
    Pair,
    Point,
    Rock,
    Silent,
    Speaks,
    T,
    Tree,
    TreeWalk,
    UserId,
    alias,
    values_of,
)


class TestLaws:
    @given(ANNOTATIONS, st.data())
    @settings(max_examples=200, deadline=None)
    def test_what_iterating_gives_is_what_element_says(
        self, annotation: Any, data: st.DataObject
    ) -> None:
        value = data.draw(values_of(annotation))
        inside = element(annotation)
        if isinstance(value, abc.Iterable):
            assert inside is not MISSING
            assert all(accepts(inside, each) for each in value)

    @given(ANNOTATIONS, st.sampled_from([0, 1, "title", "a", slice(1)]), st.data())
    @settings(max_examples=200, deadline=None)
    def test_what_subscripting_gives_is_what_item_says(
        self, annotation: Any, key: Any, data: st.DataObject
    ) -> None:
        value = data.draw(values_of(annotation))
        try:
            found = value[key]
        except (TypeError, LookupError):
            return
        assert accepts(item(annotation, key), found)
        assert item(annotation, key) is not MISSING

    @given(ANNOTATIONS, st.sampled_from(["value", "text", "x", "upper", "name"]), st.data())
    @settings(max_examples=200, deadline=None)
    def test_an_attribute_that_exists_is_of_the_type_that_member_says(
        self, annotation: Any, name: str, data: st.DataObject
    ) -> None:
        value = data.draw(values_of(annotation))
        if hasattr(value, name):
            assert member(annotation, name) is not MISSING
            assert accepts(member(annotation, name), getattr(value, name))

    @given(ANNOTATIONS)
    @settings(max_examples=200, deadline=None)
    def test_what_is_spelled_is_python_and_means_the_same(self, annotation: Any) -> None:
        names = {**vars(kinds), **vars(abc), "Any": Any}
        read = eval(spell(annotation), names)
        assert compare(annotation, read) is Fit.MUST or not {"Any", "object"}.isdisjoint(
            spell(annotation).replace("[", " ").replace("]", " ").replace(",", " ").split()
        )
        assert spell(read) == spell(annotation)
