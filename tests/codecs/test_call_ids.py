"""Ids of calls that another provider made: as this one takes them, and still apart."""

from __future__ import annotations

import json
import re

import botocore.session  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.dialect import Dialect
from orchestra.values import ChatRequest, Json, Message, ToolCall, ToolResult

CLAUDE, NOVA = "anthropic.claude-sonnet-4-6", "amazon.nova-pro-v1:0"
CLAUDES = r"[a-zA-Z0-9_-]+"
IDS = st.text(max_size=80) | st.from_regex(r"functions\.[a-z]{1,9}:\d", fullmatch=True)


def told(dialect: Dialect, model: str, ids: list[str]) -> tuple[list[str], list[str]]:
    """The ids of the calls and of their results, as they are sent."""
    ((called, answered),) = told_in_turns(dialect, model, [ids])
    return called, answered


def told_in_turns(
    dialect: Dialect, model: str, turns: list[list[str]]
) -> list[tuple[list[str], list[str]]]:
    """The same for each turn of a conversation."""
    messages = [
        message
        for ids in turns
        for message in (
            Message("assistant", tuple(ToolCall(each, "f") for each in ids)),
            Message("tool", tuple(ToolResult(each, "f", "r") for each in ids)),
        )
    ]
    body = json.loads(dialect.ask(model, ChatRequest(tuple(messages)), stream=False).body)
    sent = [[_id(each) for each in turn["content"]] for turn in body["messages"]]
    return list(zip(sent[::2], sent[1::2], strict=True))


def _id(block: Json) -> str:
    used = block.get("toolUse") or block.get("toolResult") or block
    found: str = used.get("toolUseId") or used.get("tool_use_id") or used["id"]
    return found


@given(st.lists(IDS, min_size=1, max_size=4, unique=True))
@pytest.mark.parametrize(
    ("dialect", "model", "taken"),
    [
        (AnthropicDialect(), "claude-sonnet-5", CLAUDES),
        (BedrockDialect(), CLAUDE, r"[a-zA-Z0-9_-]{1,64}"),
        (BedrockDialect(), NOVA, r"[a-zA-Z0-9_.:-]{1,64}"),
    ],
)
def test_ids_fit_stay_apart_and_are_those_of_their_results(
    dialect: Dialect, model: str, taken: str, ids: list[str]
) -> None:
    called, answered = told(dialect, model, ids)
    assert called == answered
    assert len(set(called)) == len(ids)
    assert all(re.fullmatch(taken, each) for each in called)
    assert told(dialect, model, called)[0] == called, "what fits stays as it is"


AGAIN = st.sampled_from(["call_0", "call_0-1", "call_0-2", "call_1", "a:b"])


@given(st.lists(st.lists(AGAIN, min_size=1, max_size=3, unique=True), min_size=1, max_size=5))
@example([["call_0"], ["call_0"]])
@pytest.mark.parametrize(
    ("dialect", "model"),
    [(AnthropicDialect(), "claude-sonnet-5"), (BedrockDialect(), CLAUDE), (BedrockDialect(), NOVA)],
)
def test_ids_that_a_model_repeats_in_each_turn_are_told_apart(
    dialect: Dialect, model: str, turns: list[list[str]]
) -> None:
    """Claude refuses a conversation in which an id comes twice."""
    told = told_in_turns(dialect, model, turns)
    assert all(called == answered for called, answered in told)
    ids = [each for called, _ in told for each in called]
    assert len(set(ids)) == len(ids)
    if turns[1:]:
        assert told_in_turns(dialect, model, turns[:-1]) == told[:-1], (
            "or no prompt cache would hit"
        )


def test_ids_of_its_own_making_stay_as_they_are() -> None:
    ids = ["toolu_01A", "call_1", "tooluse_a-b"]
    assert told(AnthropicDialect(), "claude-sonnet-5", ids)[0] == ids
    assert told(BedrockDialect(), NOVA, [*ids, "functions.add:0"])[0] == [*ids, "functions.add:0"]
    assert told(BedrockDialect(), CLAUDE, ["functions.add:0"])[0] != ["functions.add:0"]


def test_what_ids_converse_takes_is_as_botocore_has_it() -> None:
    service = botocore.session.get_session().get_service_model("bedrock-runtime")
    id_ = service.shape_for("ToolUseId").metadata
    assert (id_["min"], id_["max"], id_["pattern"]) == (1, 64, "[a-zA-Z0-9_.:-]+")
