"""Requests as bytes are equal where nothing that is asked differs."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from orchestra.policies.requests.canonical import written_of
from orchestra.values import ChatRequest, Message

ASKED = (Message("user", "hello"),)


def test_any_mapping_is_written_as_what_is_in_it() -> None:
    extras: Any = {"openai": {"a": 1}}
    frozen: Any = MappingProxyType({"openai": MappingProxyType({"a": 1})})
    one, other = (written_of(("s",), ChatRequest(ASKED, extras=each)) for each in (extras, frozen))
    assert one == other


@pytest.mark.parametrize("value", [object(), 2**64, "\ud800"])
def test_a_request_that_cannot_be_written_has_no_bytes(value: object) -> None:
    assert written_of((), ChatRequest(ASKED, extras={"openai": {"a": value}})) is None
