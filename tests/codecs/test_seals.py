"""Seals: each provider is sent its own, whoever answered in between."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.answers import Completion
from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import GENERIC, MISTRAL, OPENAI, OPENROUTER
from orchestra.codecs.seals import call_seal, google_seal, opened, own, sealed
from orchestra.values import ChatRequest, Message, ReasoningPart, ToolCall, ToolResult

SEAL, WITHHELD, ON_CALL, ON_TEXT = "c2VhbA==", "d2l0aGhlbGQ=", "Y2FsbA==", "dGV4dA=="
UNSEALED = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
MODELS: dict[str, tuple[Dialect, str]] = {
    "anthropic": (AnthropicDialect(), "claude-sonnet-5"),
    "bedrock": (BedrockDialect(), "anthropic.claude-sonnet-4-6"),
    "invoked": (BedrockInvokeDialect(), "anthropic.claude-sonnet-4-6"),
    "profile": (BedrockDialect(), "arn:aws:bedrock:us-east-1:1:application-inference-profile/a"),
    "nova": (BedrockDialect(), "amazon.nova-2-lite-v1:0"),
    "invoked nova": (BedrockInvokeDialect(), "amazon.nova-2-lite-v1:0"),
    "gemini": (GeminiDialect(), "gemini-3-pro-preview"),
    "vertex": (GeminiDialect(vertex=True), "gemini-3-pro-preview"),
    "openrouter": (OpenAiDialect(OPENROUTER), "google/gemini-3-pro-preview"),
    "compatible": (OpenAiDialect(GENERIC), "gemini-3-pro-preview"),
    "openai": (OpenAiDialect(OPENAI), "gpt-5.4"),
    "mistral": (OpenAiDialect(MISTRAL), "mistral-large"),
}
CLAUDES = ("anthropic", "bedrock", "invoked")
READERS = {
    "anthropic": (*CLAUDES, "profile"),
    "bedrock": (*CLAUDES, "profile"),
    "invoked": (*CLAUDES, "profile"),
    "gemini": ("gemini", "compatible"),
    "vertex": ("vertex", "compatible"),
    "openrouter": ("openrouter",),
    "compatible": ("gemini", "vertex", "compatible"),
}
"""Whose seals are sent to whom."""
CALL = {"name": "add", "args": {}}
CLAUDE: dict[str, Any] = {
    "id": "m",
    "type": "message",
    "model": "claude",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": SEAL},
        {"type": "redacted_thinking", "data": WITHHELD},
        {"type": "tool_use", "id": "c", "name": "add", "input": {}},
    ],
    "stop_reason": "tool_use",
}
CONVERSE: dict[str, Any] = {
    "output": {
        "message": {
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": SEAL}}},
                {"reasoningContent": {"redactedContent": WITHHELD}},
                {"toolUse": {"toolUseId": "c", "name": "add", "input": {}}},
            ]
        }
    },
    "stopReason": "tool_use",
}
GEMINI: dict[str, Any] = {
    "candidates": [
        {
            "content": {
                "parts": [
                    {"text": "hm", "thought": True, "thoughtSignature": SEAL},
                    {"text": "so", "thoughtSignature": ON_TEXT},
                    {"functionCall": CALL, "thoughtSignature": ON_CALL},
                ]
            },
            "finishReason": "STOP",
        }
    ]
}
CHAT_CALL: dict[str, Any] = {
    "id": "c",
    "type": "function",
    "function": {"name": "add", "arguments": "{}"},
}


def chat(**message: Any) -> dict[str, Any]:
    return {"id": "a", "choices": [{"message": message, "finish_reason": "tool_calls"}]}


ANSWERS: dict[str, dict[str, Any]] = {
    "anthropic": CLAUDE,
    "bedrock": CONVERSE,
    "invoked": CLAUDE,
    "gemini": GEMINI,
    "vertex": GEMINI,
    "openrouter": chat(
        reasoning="hm",
        tool_calls=[CHAT_CALL],
        reasoning_details=[
            {"type": "reasoning.text", "text": "hm", "index": 0, "signature": SEAL},
            {"type": "reasoning.encrypted", "data": ON_CALL, "index": 1, "id": "c"},
        ],
    ),
    "compatible": chat(
        tool_calls=[CHAT_CALL | {"extra_content": {"google": {"thought_signature": ON_CALL}}}]
    ),
}


def sent(whom: str, *parts: ReasoningPart | ToolCall) -> str:
    """The body of a call that asks with these parts in an answer."""
    dialect, model = MODELS[whom]
    result = Message("tool", (ToolResult("c", "add", "3"),))
    request = ChatRequest((Message("user", "1+2?"), Message("assistant", parts), result))
    return dialect.ask(model, request, stream=False).body.decode()


@pytest.mark.parametrize("whom", MODELS)
@pytest.mark.parametrize("whose", ANSWERS)
def test_seals_go_back_to_whoever_reads_them_and_to_nobody_else(whose: str, whom: str) -> None:
    answer = Completion.of(MODELS[whose][0].decode(json.dumps(ANSWERS[whose]).encode()))
    dialect, model = MODELS[whom]
    result = Message("tool", (ToolResult(answer.tool_calls[0].id, "add", "3"),))
    request = ChatRequest((Message("user", "1+2?"), answer.message, result))
    body = dialect.ask(model, request, stream=False).body.decode()
    told = json.dumps(ANSWERS[whose])
    expected = {each for each in (SEAL, WITHHELD, ON_CALL, ON_TEXT) if each in told}
    if whom == "compatible":
        expected &= {ON_CALL}  # the dialect has no room for others
    if whom not in READERS[whose]:
        expected = set()
    assert {each for each in (SEAL, WITHHELD, ON_CALL, ON_TEXT) if each in body} == expected
    assert not any(f"{origin}:" in body for origin in ("anthropic", "gemini", "vertex", "redacted"))
    if whom not in ("openai", "mistral", "compatible", "openrouter"):
        assert "hm" not in body or expected, "what was thought is told to no other provider"


@pytest.mark.parametrize("whom", ["gemini", "vertex", "compatible", "openrouter"])
@pytest.mark.parametrize("whose", ["anthropic", "openrouter", ""])
def test_gemini_is_told_of_a_call_that_it_has_not_made(whose: str, whom: str) -> None:
    """It refuses a turn whose first call has no seal, and takes these words for one."""
    first, second = ToolCall("c", "add", signature=whose and f"{whose}:{SEAL}"), ToolCall("d", "f")
    body = json.loads(sent(whom, first, second))
    if whom in ("gemini", "vertex"):
        parts = body["contents"][1]["parts"]
        assert [each.get("thoughtSignature") for each in parts] == [UNSEALED, None]
        return
    turn = body["messages"][1]
    words = "skip_thought_signature_validator"
    if whom == "compatible":
        (extra, none) = (each.get("extra_content") for each in turn["tool_calls"])
        assert (extra, none) == ({"google": {"thought_signature": words}}, None)
    else:
        (detail,) = turn["reasoning_details"]
        assert detail == {
            "type": "reasoning.encrypted",
            "data": words,
            "id": "c",
            "format": "google-gemini-v1",
            "index": 0,
        }


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemma-3", "tuned", "claude-sonnet-5"])
@pytest.mark.parametrize("whom", ["gemini", "vertex", "compatible", "openrouter"])
def test_other_models_are_told_nothing_of_seals(whom: str, model: str) -> None:
    request = ChatRequest((Message("assistant", (ToolCall("c", "add"),)),))
    body = MODELS[whom][0].ask(model, request, stream=False).body.decode()
    assert not any(word in body for word in ("ignature", "reasoning_details", "extra_content"))


def test_a_seal_that_was_kept_by_an_earlier_version_goes_back() -> None:
    bare = ReasoningPart("hm", SEAL)
    assert all(SEAL in sent(whom, bare) for whom in (*CLAUDES, "nova", "gemini", "vertex"))
    assert SEAL not in sent("openrouter", bare) + sent("compatible", bare)
    assert SEAL in sent("gemini", ToolCall("c", "add", signature=SEAL))
    withheld = ReasoningPart("", f"redacted:{WITHHELD}")
    assert WITHHELD in sent("anthropic", withheld)
    assert WITHHELD not in sent("gemini", withheld)
    on_text = ReasoningPart("", f"text:{ON_TEXT}")
    assert ON_TEXT in sent("gemini", on_text)
    assert ON_TEXT not in sent("anthropic", on_text)


@given(st.sampled_from(["anthropic", "gemini", "openrouter"]), st.text(min_size=1))
def test_an_origin_is_told_apart_from_its_seal(origin: str, seal: str) -> None:
    signature = sealed(origin, seal)
    assert opened(signature) == (origin, seal)
    assert own(signature, origin) == seal
    assert own(signature, "vertex") == ""
    assert (sealed(origin, ""), sealed(origin, None)) == ("", "")


def test_what_has_no_origin_is_a_seal() -> None:
    assert opened("c2VhbA==") == ("", "c2VhbA==")
    assert opened("sha256:abc") == ("", "sha256:abc"), "who asks for its own colon gets it back"
    assert call_seal("anthropic:c2VhbA==") == ""


@pytest.mark.parametrize(
    "extra", [None, 5, [], {}, {"google": 5}, {"google": {}}, {"google": {"thought_signature": 5}}]
)
def test_what_is_no_seal_of_google_s_is_none(extra: object) -> None:
    assert google_seal(extra) == ""


@pytest.mark.parametrize("last", [{}, {"index": 0}, {"index": 0, "function": {"arguments": ""}}])
def test_google_may_seal_a_streamed_call_behind_its_arguments(last: dict[str, Any]) -> None:
    extra = {"extra_content": {"google": {"thought_signature": ON_CALL}}}
    pieces = [{**CHAT_CALL, "index": 0}, last | extra, last | extra]
    chunks: list[dict[str, Any]] = [{"delta": {"tool_calls": [each]}} for each in pieces]
    chunks.append({"delta": {}, "finish_reason": "tool_calls"})
    told = [json.dumps({"id": "a", "choices": [each | {"index": 0}]}) for each in chunks]
    decoder = MODELS["compatible"][0].decoder()
    wire = "".join(f"data: {each}\n\n" for each in [*told, "[DONE]"])
    answer = Completion.of([*decoder.feed(wire.encode()), *decoder.close()])
    assert answer.tool_calls == (ToolCall("c", "add", signature=ON_CALL),)
