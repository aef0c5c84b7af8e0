"""Each parameter that Anthropic's client for Python has: passed on, without effect, or refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import anthropic
import msgspec
import pytest
from anthropic import types
from anthropic.types import beta, message_create_params
from anthropic.types.beta import message_create_params as beta_create_params

from orchestra.answers import Completion
from orchestra.citations import Citation, Cited
from orchestra.codecs.anthropic.dialect import REASONS
from orchestra.codecs.anthropic_serving.answers import MessageWriter, message_record
from orchestra.codecs.anthropic_serving.request import served_messages
from orchestra.values import (
    Json,
    ReasoningDelta,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
    ToolCallDelta,
)
from tests.clients.parameters import (
    NEEDED,
    Fate,
    Place,
    Told,
    cases,
    judge,
    none,
    passed,
    read,
    refused,
    untold,
)

PAGE = Path(__file__).parents[2] / "docs/anthropic.md"
MARK = {"type": "ephemeral"}
SCHEMA = {"type": "object", "properties": {}}
FORMAT = {"type": "json_schema", "schema": SCHEMA}
TOOL = {"name": "f", "input_schema": SCHEMA}
PIXEL = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PAPER = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
HEADERS = {"betas": ["b"], "user_profile_id": "u", "workspace_id": "w"}
"""What the client sends as a header. A body with such a field is refused."""
BODY: Json = {
    "model": "gpt-4o",
    "max_tokens": 9000,
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image", "source": PIXEL},
                {"type": "document", "source": PAPER},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "c2Vh"},
                {"type": "redacted_thinking", "data": "c2Vh"},
                {"type": "tool_use", "id": "c", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c",
                    "content": [
                        {
                            "type": "search_result",
                            "title": "t",
                            "source": "s",
                            "content": [{"type": "text", "text": "x"}],
                        },
                        {"type": "tool_reference", "tool_name": "f"},
                    ],
                }
            ],
        },
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "And now?"},
    ],
    "tools": [TOOL],
    "tool_choice": {"type": "auto"},
    "cache_control": MARK,
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "output_config": {"format": FORMAT},
    "metadata": {},
}
SHOWN = {"source": NEEDED, "type": NEEDED, "cache_control": read(MARK)}
PLACES = [
    Place(
        "",
        (
            message_create_params.MessageCreateParamsNonStreaming,
            message_create_params.MessageCreateParamsStreaming,
            beta_create_params.MessageCreateParamsStreaming,
        ),
        {
            "model": read("another"),
            "messages": read([{"role": "user", "content": "Hi"}]),
            "max_tokens": read(9),
            "system": read("Be kind."),
            "stream": read(value=True),
            "stop_sequences": read(["END"]),
            "tools": read([{**TOOL, "name": "g"}]),
            "tool_choice": read({"type": "any"}),
            "thinking": read({"type": "disabled"}),
            "output_config": read({"effort": "low"}),
            "cache_control": read(None),
            "metadata": passed({"user_id": "u"}),
            "service_tier": passed("auto"),
            "context_management": none({"edits": [{"type": "clear_tool_uses_20250919"}]}),
            "diagnostics": none({"previous_message_id": "msg_1"}),
            "compaction": refused({"type": "summarize"}),
            "container": refused("c"),
            "mcp_servers": refused([{"type": "url", "name": "m", "url": "https://a.test/"}]),
            "thread": refused({"type": "create"}),
            "speed": refused("fast"),
            "inference_geo": refused("us"),
            "billing_policy": refused({"type": "x", "bill_to": "self"}),
            "fallback_credit_token": refused("t"),
            "fallbacks": refused([{"model": "m"}]),
            **dict.fromkeys(HEADERS, NEEDED),
        },
    ),
    Place(
        "tools[0]",
        (types.ToolParam, beta.BetaToolParam),
        {
            "name": read("g"),
            "type": NEEDED,
            "description": read("Does it."),
            "input_schema": read({"type": "object"}),
            "strict": read(value=True),
            "cache_control": read(MARK),
            "allowed_callers": refused(["code_execution_20260120"]),
            "defer_loading": none(value=True),
            "eager_input_streaming": none(value=True),
            "input_examples": none([{"x": 1}]),
        },
    ),
    Place(
        "tool_choice",
        (types.ToolChoiceAutoParam, types.ToolChoiceAnyParam, types.ToolChoiceNoneParam),
        {"type": read("none"), "disable_parallel_tool_use": read(value=True)},
    ),
    Place(
        "thinking",
        (
            *(types.ThinkingConfigEnabledParam, types.ThinkingConfigDisabledParam),
            *(types.ThinkingConfigAdaptiveParam, types.ThinkingConfigBetweenToolsParam),
            *(beta.BetaThinkingConfigEnabledParam, beta.BetaThinkingConfigAdaptiveParam),
        ),
        {
            "type": read("between_tools"),
            "budget_tokens": read(9000),
            "display": passed("omitted"),
            "block_binding": none({"prefix_mismatch_behavior": "drop"}),
        },
    ),
    Place(
        "output_config",
        (types.OutputConfigParam, beta.BetaOutputConfigParam),
        {
            "effort": read("xhigh"),
            "format": read(None),
            "task_budget": none({"type": "tokens", "total": 9000}),
        },
    ),
    Place(
        "output_config.format",
        (types.JSONOutputFormatParam, beta.BetaJSONOutputFormatParam),
        {"type": NEEDED, "schema": read({"type": "object"})},
    ),
    Place(
        "cache_control",
        (types.CacheControlEphemeralParam, beta.BetaCacheControlEphemeralParam),
        {"type": NEEDED, "ttl": none("1h")},
    ),
    Place("metadata", (types.MetadataParam,), {"user_id": passed("u")}),
    Place(
        "messages[0]",
        (types.UserMessageParam, types.AssistantMessageParam),
        {"role": NEEDED, "content": read("Hi")},
    ),
    Place(
        "messages[3]",
        (types.SystemMessageParam, beta.BetaSystemMessageParam),
        {
            "role": NEEDED,
            "content": read("Be kind."),
            "clear_at": read("next_user_message"),
            "output_config": refused({"effort": "low"}),
        },
    ),
    Place(
        "messages[0].content[0]",
        (types.TextBlockParam, beta.BetaTextBlockParam),
        {
            "type": NEEDED,
            "text": read("Why?"),
            "cache_control": read(MARK),
            "citations": none([{"type": "char_location"}]),
        },
    ),
    Place(
        "messages[0].content[1]",
        (types.ImageBlockParam, beta.BetaImageBlockParam),
        {**SHOWN, "transformations": refused({"oversized_image": "error"})},
    ),
    Place(
        "messages[0].content[1].source",
        (types.Base64ImageSourceParam, types.URLImageSourceParam),
        {
            "type": NEEDED,
            "media_type": read("image/jpeg"),
            "data": read("AAAA"),
            "url": NEEDED,
        },
    ),
    Place(
        "messages[0].content[2]",
        (types.DocumentBlockParam, beta.BetaRequestDocumentBlockParam),
        {
            **SHOWN,
            "title": read("a.pdf"),
            "context": read("Old."),
            "citations": read({"enabled": True}),
        },
    ),
    Place(
        "messages[1].content[0]",
        (types.ThinkingBlockParam, beta.BetaThinkingBlockParam),
        {"type": NEEDED, "thinking": read("So"), "signature": read("AAAA")},
    ),
    Place(
        "messages[1].content[1]",
        (types.RedactedThinkingBlockParam, beta.BetaRedactedThinkingBlockParam),
        {"type": NEEDED, "data": read("AAAA")},
    ),
    Place(
        "messages[1].content[2]",
        (types.ToolUseBlockParam, beta.BetaToolUseBlockParam),
        {
            "type": NEEDED,
            "id": NEEDED,
            "name": read("g"),
            "input": read({"x": 1}),
            "cache_control": none(MARK),
            "caller": none({"type": "direct"}),
            "toolset_name": none("computer"),
        },
    ),
    Place(
        "messages[2].content[0]",
        (types.ToolResultBlockParam, beta.BetaToolResultBlockParam),
        {
            "type": NEEDED,
            "tool_use_id": NEEDED,
            "content": read("done"),
            "is_error": read(value=True),
            "cache_control": read(MARK),
            "toolset_name": none("computer"),
        },
    ),
    Place(
        "messages[2].content[0].content[0]",
        (types.SearchResultBlockParam, beta.BetaSearchResultBlockParam),
        {
            **SHOWN,
            "source": read("another"),
            "title": read("u"),
            "content": read([{"type": "text", "text": "y"}]),
            "citations": read({"enabled": True}),
        },
    ),
    Place(
        "messages[2].content[0].content[1]",
        (types.ToolReferenceBlockParam, beta.BetaToolReferenceBlockParam),
        {"type": NEEDED, "tool_name": read("g"), "cache_control": read(MARK)},
    ),
]


@pytest.mark.parametrize("place", PLACES, ids=lambda each: each.at or "the body")
def test_of_each_parameter_somebody_has_decided(place: Place) -> None:
    assert not place.undecided()


@pytest.mark.parametrize(("place", "field", "told"), cases(PLACES))
def test_each_parameter_has_the_fate_that_was_decided(place: Place, field: str, told: Told) -> None:
    body = {**BODY, "cache_control": None} if field == "cache_control" and place.at else BODY
    judge(place, field, told, body, served_messages)


def test_what_has_no_effect_is_documented() -> None:
    assert not untold(PLACES, PAGE.read_text("utf-8"))


@pytest.fixture(scope="module")
def client(ours: str) -> Iterator[anthropic.Anthropic]:
    url = ours.removesuffix("/v1")
    with anthropic.Anthropic(api_key="any", base_url=url, max_retries=0) as vendor:
        yield vendor


SPOKEN: dict[str, Any] = {
    "max_tokens": 9000,
    "messages": [{"role": "user", "content": "one two"}],
    "tools": [TOOL],
}
SAID = [(each, told) for each, told in PLACES[0].fields.items() if told is not NEEDED]


@pytest.mark.parametrize("model", ["gpt-4o", "everything"])
@pytest.mark.parametrize(("field", "told"), SAID)
def test_its_own_client_is_told_of_each(
    client: anthropic.Anthropic, model: str, field: str, told: Told
) -> None:
    if field == "model":
        return
    asked = {"model": model, **SPOKEN, field: told.value}
    if told.fate is Fate.REFUSED:
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.beta.messages.create(**asked)
        assert msgspec.convert(caught.value.body, Json)["error"]["message"].startswith(field)
        return
    found = client.beta.messages.create(**asked)
    if field == "stream":
        assert [each.type for each in found][-1] == "message_stop"
    else:
        assert found.content[0].type == "text"


def test_what_is_a_header_at_anthropic_has_no_effect(client: anthropic.Anthropic) -> None:
    answer = client.beta.messages.create(model="gpt-4o", **SPOKEN, **HEADERS)  # type: ignore[call-overload]
    assert answer.content[0].text == "one two"


def test_a_pipeline_that_is_given_the_question_only_says_what_it_cannot_hear(
    client: anthropic.Anthropic,
) -> None:
    for field, value, named in (
        ("tools", [TOOL], "tools: this model is a pipeline"),
        ("output_config", {"format": FORMAT}, "output_config.format: this model is a pipeline"),
    ):
        asked = {"model": "shout", **SPOKEN, "tools": [], field: value}
        with pytest.raises(anthropic.BadRequestError, match=named):
            client.messages.create(**asked)


# --- what is answered ----------------------------------------------------------------------------

NEVER: Any = {
    types.Message: {"container", "diagnostics"},
    types.Usage: {
        *("cache_creation", "inference_geo", "server_tool_use", "service_tier", "speed"),
    },
    types.MessageDeltaUsage: {"server_tool_use"},
    types.raw_message_delta_event.Delta: {"container"},
    types.RefusalStopDetails: set(),
    types.TextBlock: set(),
    types.ToolUseBlock: {"caller", "toolset_name"},
}
"""What no answer here has, of what Anthropic's may have: see "What is answered" in the docs."""


def test_an_answer_has_every_field_but_those_that_were_decided_against(
    client: anthropic.Anthropic,
) -> None:
    asked = {"model": "gpt-4o", **SPOKEN}
    (told, called) = (
        client.messages.create(**{**asked, "messages": [{"role": "user", "content": text}]})
        for text in ("one two", "weather?")
    )
    *_, delta, _ = client.messages.create(**asked, stream=True)
    assert delta.type == "message_delta"
    stopped = Stopped(StopReason.CONTENT_FILTER, "refusal", category="bio")
    record = message_record(Completion((), stopped, refusal="No."), "msg_1", "m", None)
    refusal = types.RefusalStopDetails.model_validate(record["stop_details"])
    whole = Completion((TextPart("So"),), stopped, citations=(Citation(0, 2),))
    (text,) = message_record(whole, "msg_1", "m", None)["content"]
    for found in (
        *(told, told.usage, types.TextBlock.model_validate(text), called.content[0]),
        *(delta.usage, delta.delta, refusal),
    ):
        kind = type(found)
        assert kind.model_fields.keys() - found.model_fields_set == NEVER.pop(kind)
    assert not NEVER


def test_every_reason_to_stop_has_its_word() -> None:
    assert set(get_args(types.StopReason)) == set(REASONS)
    assert set(get_args(beta.BetaStopReason)) - set(REASONS) == {"compaction"}
    kinds = {
        get_args(kind.model_fields["type"].annotation)[0]
        for union in (types.RawMessageStreamEvent, types.RawContentBlockDelta)
        for kind in get_args(get_args(union)[0])
    }
    told = MessageWriter("msg_1", "m")
    raw = told.write(
        [
            *(ReasoningDelta("Hm", "anthropic:c2Vh"), TextDelta("So"), Cited((Citation(0, 2),))),
            *(ToolCallDelta(0, "c", "f", "{}"), Stopped(StopReason.END)),
        ]
    )
    said = set(re.findall(r'"type":"(\w+)"', (raw + told.close()).decode()))
    assert kinds <= said
