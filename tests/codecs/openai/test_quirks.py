"""Quirks are flags: the dialect asks them, and never who the provider is."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.codecs.openai.quirks import GENERIC, MISTRAL, OPENAI, PRESETS, Quirks
from orchestra.codecs.openai.request import chat_body
from orchestra.codecs.tool_calls import fingerprint
from orchestra.values import ChatRequest, Message, ToolCall, ToolResult

CODECS = Path(__file__).parents[3] / "orchestra" / "codecs"


def test_the_dialect_never_asks_who_the_provider_is() -> None:
    """No name of a preset stands in its code; `quirks.name` chooses extras, and names errors."""
    names = "|".join(sorted(PRESETS))
    asks = re.compile(rf"[\"'](?:{names})[\"']|quirks\.name\s*(?:==|!=| in )")
    for path in {*CODECS.glob("openai*/*.py")} - {CODECS / "openai/quirks.py"}:
        code = path.read_text().replace('_EXTRAS_FOR = "openai"', "")
        assert asks.findall(code) == [], path.name


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_found_by_its_own_name(name: str) -> None:
    preset = PRESETS[name]
    assert PRESETS[preset.name] is preset
    assert preset.texts_max >= 1
    re.compile(preset.call_ids)


def test_only_a_server_that_nobody_knows_is_forgiven_a_missing_reason() -> None:
    assert {name for name, each in PRESETS.items() if each.done_is_finish} == {"openai-compatible"}


def test_a_quirk_is_changed_by_its_name() -> None:
    assert attrs.evolve(GENERIC, top_k=False) != GENERIC
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        OPENAI.top_k = True  # type: ignore[misc]


@given(st.text(), st.text(), st.sampled_from(sorted(PRESETS)))
def test_ids_of_calls_are_those_that_the_server_takes(first: str, second: str, name: str) -> None:
    quirks: Quirks = PRESETS[name]
    ids = [quirks.call_id(each) for each in (first, second)]
    assert all(re.fullmatch(quirks.call_ids, each) for each in ids)
    assert (ids[0] == ids[1]) == (first == second)
    assert [quirks.call_id(each) for each in ids] == ids


TURNS = {
    "user": Message("user", "Hello"),
    "assistant": Message("assistant", (ToolCall("abcDEF123", "add"),)),
    "tool": Message("tool", (ToolResult("abcDEF123", "add", "2"),)),
}


@given(st.lists(st.sampled_from(sorted(TURNS)), min_size=1, max_size=6))
@example(["user", "assistant", "tool", "user"])
def test_mistral_gets_no_users_message_right_after_a_tools_result(roles: list[str]) -> None:
    """It answers with 400, "Unexpected role 'user' after role 'tool'"."""
    request = ChatRequest(tuple(TURNS[each] for each in roles))
    plain = chat_body("m", request, attrs.evolve(MISTRAL, user_after_tool=True), stream=False)
    found = chat_body("m", request, MISTRAL, stream=False)["messages"]
    assert [each for each in found if each.get("content") != "OK."] == plain["messages"]
    pairs = pairwise(each["role"] for each in plain["messages"])
    assert len(found) - len(roles) == [*pairs].count(("tool", "user"))
    assert ("tool", "user") not in pairwise(each["role"] for each in found)


def test_what_mistral_takes_for_an_id() -> None:
    assert MISTRAL.call_id("abcDEF123") == "abcDEF123"
    assert MISTRAL.call_id("call_1") == fingerprint("call_1", 9)
    assert len(fingerprint("\ud800", 24)) == 24
