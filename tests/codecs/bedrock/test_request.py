"""What Converse is asked, with botocore's shapes and paths as oracles."""

from __future__ import annotations

import itertools
import json
from base64 import b64encode
from typing import Any, get_args

import botocore.eventstream  # type: ignore[import-untyped]
import botocore.parsers  # type: ignore[import-untyped]
import botocore.serialize  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
import botocore.validate  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.errors import (
    CapabilityError,
)
from orchestra.values import (
    ChatRequest,
    FilePart,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Message,
    ReasoningEffort,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tests.codecs.system_messages import sendable

DIALECT = BedrockDialect()
CLAUDE = "anthropic.claude-sonnet-4-6"
_ARN = "arn:aws:bedrock:us-east-1:1"
SERVICE = botocore.session.get_session().get_service_model("bedrock-runtime")
CONVERSE = SERVICE.operation_model("Converse")
CONVERSE_STREAM = SERVICE.operation_model("ConverseStream")
USER = Message("user", "Hi")
WEATHER = Tool("weather", "Tells the weather", {"type": "object", "properties": {}})
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
WORDS = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=6)
PARTS = st.one_of(
    st.builds(TextPart, TEXTS, st.booleans()),
    st.builds(ImagePart, st.binary(max_size=4), st.sampled_from(("image/png", "image/jpeg"))),
    st.just(ImageUrlPart("s3://bucket/cat.webp")),
    st.builds(ReasoningPart, TEXTS, st.sampled_from(("", "c2VhbA==", "redacted:c2VhbA=="))),
    st.builds(ToolCall, WORDS, WORDS, st.sampled_from(("{}", '{"a": 1}', "[1]", "{", ""))),
    st.builds(ToolResult, WORDS, WORDS, TEXTS, st.booleans(), st.booleans()),
)
MESSAGES = st.builds(
    Message,
    st.sampled_from(("system", "user", "assistant", "tool")),
    TEXTS | st.lists(PARTS, max_size=4).map(tuple),
).map(sendable)
OBJECTS = st.dictionaries(WORDS, st.just({"type": "string"}), max_size=2).map(
    lambda found: {"type": "object", "properties": found}
)
TOOLS = st.builds(Tool, WORDS, TEXTS, OBJECTS, st.booleans())
REQUESTS = st.builds(
    ChatRequest,
    st.lists(MESSAGES, max_size=5).map(tuple),
    temperature=st.none() | st.floats(0, 1),
    output_tokens_max=st.none() | st.integers(5000, 9000),
    stop=st.lists(WORDS, max_size=2).map(tuple),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(1, 9),
    reasoning_effort=st.sampled_from((None, *get_args(ReasoningEffort))),
    tools=st.lists(TOOLS, max_size=2).map(tuple),
    tool_choice=st.sampled_from((None, "auto", "required", ForcedTool("x"))),
    output=st.none() | st.builds(JsonOutput, OBJECTS, WORDS),
)


def body_of(request: ChatRequest, model: str = CLAUDE) -> Json:
    body: Json = json.loads(DIALECT.ask(model, request, stream=False).body)
    return body


def _invalid(parameters: Json) -> str:
    """What botocore finds wrong in the parameters of a call."""
    report = botocore.validate.ParamValidator().validate(parameters, CONVERSE.input_shape)
    return str(report.generate_report())


@given(
    REQUESTS,
    st.sampled_from(
        (CLAUDE, "us.amazon.nova-2-lite-v1:0", "anthropic.claude-3-7-sonnet-20250219-v1:0")
    ),
)
def test_a_body_is_one_that_botocore_would_send(request: ChatRequest, model: str) -> None:
    body = body_of(request, model)
    assert _invalid({"modelId": model, **body}) == ""
    roles = [each["role"] for each in body["messages"]]
    assert all(first != second for first, second in itertools.pairwise(roles))
    assert all(each["content"] for each in body["messages"])
    texts = [
        part["text"] for each in body["messages"] for part in each["content"] if "text" in part
    ]
    assert all(text.strip() for text in texts)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=60))
def test_a_path_is_botocores(model: str) -> None:
    serializer = botocore.serialize.create_serializer("rest-json")
    theirs = serializer.serialize_to_request({"modelId": model, "messages": []}, CONVERSE_STREAM)
    assert DIALECT.ask(model, ChatRequest((USER,)), stream=True).path == theirs["url_path"]


def test_an_arn_is_one_segment_of_the_path() -> None:
    arn = "arn:aws:bedrock:us-east-1:1:inference-profile/us.a-v1:0"
    assert DIALECT.ask(arn, ChatRequest((USER,)), stream=False).path == (
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.a-v1%3A0/converse"
    )


def test_a_conversation_in_converses_words() -> None:
    call = ToolCall("c1", "weather", '{"city": "Rome"}')
    request = ChatRequest(
        (
            Message("system", "Be brief"),
            Message("user", (TextPart("And this?"), ImagePart(b"\x89PNG"))),
            Message("assistant", (ReasoningPart("hm", "seal"), call)),
            Message("tool", (ToolResult("c1", "weather", "no", is_error=True),)),
            Message("user", "Go on"),
        ),
        temperature=0.5,
        output_tokens_max=9,
        stop=("END",),
        top_p=0.25,
        top_k=3,
        tools=(WEATHER,),
        tool_choice=ForcedTool("weather"),
        extras={"bedrock": {"additionalModelRequestFields": {"a": 1}}, "openai": {"b": 2}},
    )
    assert body_of(request) == {
        "system": [{"text": "Be brief"}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"text": "And this?"},
                    {
                        "image": {
                            "format": "png",
                            "source": {"bytes": b64encode(b"\x89PNG").decode()},
                        }
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "seal"}}},
                    {"toolUse": {"toolUseId": "c1", "name": "weather", "input": {"city": "Rome"}}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "toolResult": {
                            "toolUseId": "c1",
                            "content": [{"text": "no"}],
                            "status": "error",
                        }
                    },
                    {"text": "Go on"},
                ],
            },
        ],
        "inferenceConfig": {
            "maxTokens": 9,
            "temperature": 0.5,
            "topP": 0.25,
            "stopSequences": ["END"],
        },
        "toolConfig": {
            "tools": [
                {
                    "toolSpec": {
                        "name": "weather",
                        "description": "Tells the weather",
                        "inputSchema": {"json": WEATHER.parameters},
                    }
                }
            ],
            "toolChoice": {"tool": {"name": "weather"}},
        },
        "additionalModelRequestFields": {"top_k": 3, "a": 1},
    }


def test_json_is_asked_for_by_a_closed_schema_as_text() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    asked = body_of(ChatRequest((USER,), output=JsonOutput(schema, "thing")))["outputConfig"]
    definition = asked["textFormat"]["structure"]["jsonSchema"]
    assert asked["textFormat"]["type"] == "json_schema"
    assert definition["name"] == "thing"
    assert json.loads(definition["schema"]) == {**schema, "additionalProperties": False}


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (CLAUDE, {"top_k": 7}),
        ("eu.amazon.nova-pro-v1:0", {"inferenceConfig": {"topK": 7}}),
        ("cohere.command-r-v1:0", {"k": 7}),
        ("mistral.mistral-large-2402-v1:0", {"top_k": 7}),
    ],
)
def test_top_k_stands_where_the_family_has_it(model: str, fields: Json) -> None:
    asked = body_of(ChatRequest((USER,), top_k=7), model)
    assert asked["additionalModelRequestFields"] == fields


def test_claude_is_told_to_think_as_well_as_how_hard() -> None:
    new = body_of(ChatRequest((USER,), reasoning_effort="high", output_tokens_max=9000))
    assert new["additionalModelRequestFields"] == {"thinking": {"type": "adaptive"}}
    assert new["outputConfig"] == {"effort": "high"}
    old = body_of(ChatRequest((USER,), reasoning_effort="low"), "anthropic.claude-3-7-sonnet-v1:0")
    thinking = old["additionalModelRequestFields"]["thinking"]
    assert thinking["type"] == "enabled"
    assert old["inferenceConfig"]["maxTokens"] > thinking["budget_tokens"]
    assert "outputConfig" not in old


NOVA, GPT, OSS = "us.amazon.nova-2-lite-v1:0", "openai.gpt-5.6-terra", "openai.gpt-oss-120b-1:0"
DEEPSEEK, HIDDEN = "deepseek.v3-v1:0", f"{_ARN}:application-inference-profile/abc"


@pytest.mark.parametrize(
    ("model", "effort", "fields"),
    [
        (NOVA, "minimal", {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
        (NOVA, "max", {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}),
        (NOVA, "none", None),
        (OSS, "xhigh", {"reasoning_effort": "high"}),
        (OSS, "none", {"reasoning_effort": "low"}),
        (GPT, "minimal", {"reasoning": {"effort": "low"}}),
        (GPT, "none", {"reasoning": {"effort": "none"}}),
        (GPT, "max", {"reasoning": {"effort": "max"}}),
        (DEEPSEEK, "low", {"reasoning_effort": "high"}),
        (DEEPSEEK, "none", None),
    ],
)
def test_each_family_has_its_own_field_for_the_effort(
    model: str, effort: ReasoningEffort, fields: Json | None
) -> None:
    body = body_of(ChatRequest((USER,), reasoning_effort=effort), model)
    assert body.get("additionalModelRequestFields") == fields
    assert "outputConfig" not in body


@pytest.mark.parametrize(
    "limit", [{"output_tokens_max": 9}, {"temperature": 0.5}, {"top_p": 0.5}, {"top_k": 5}]
)
def test_nova_thinks_with_medium_effort_at_most_beside_a_limit(limit: Any) -> None:
    """Nova 2 refuses `high` together with these fields."""
    body = body_of(ChatRequest((USER,), reasoning_effort="high", **limit), NOVA)
    assert body["additionalModelRequestFields"]["reasoningConfig"]["maxReasoningEffort"] == "medium"
    gpt = body_of(ChatRequest((USER,), reasoning_effort="high", output_tokens_max=9), GPT)
    assert gpt["additionalModelRequestFields"] == {"reasoning": {"effort": "high"}}


def test_a_model_that_does_not_show_its_family_gets_the_effort_in_converses_own_field() -> None:
    body = body_of(ChatRequest((USER,), reasoning_effort="minimal"), HIDDEN)
    assert body["outputConfig"] == {"effort": "low"}
    assert "outputConfig" not in body_of(ChatRequest((USER,), reasoning_effort="none"), HIDDEN)


@pytest.mark.parametrize("model", ["us.amazon.nova-pro-v1:0", "us.deepseek.r1-v1:0", "meta.llama4"])
def test_an_effort_is_refused_for_a_model_without_a_known_field(model: str) -> None:
    with pytest.raises(CapabilityError, match="additionalModelRequestFields"):
        body_of(ChatRequest((USER,), reasoning_effort="low"), model)
    plain = body_of(ChatRequest((USER,)), model)
    assert body_of(ChatRequest((USER,), reasoning_effort="none"), model) == plain
    wished = ChatRequest((USER,), reasoning_effort="low", effort_if_able=True)
    assert body_of(wished, model) == plain


def test_a_cited_file_is_a_document_or_a_search_result_and_only_for_claude() -> None:
    pieces: Any = {"passages": ("one", "", "two"), "citations": True}
    files = (
        FilePart(b"%PDF-", "application/pdf", "a.pdf", citations=True),
        FilePart(b"one", "text/plain", "b.txt", citations=True),
        FilePart(b"one two", "text/plain", "c.txt", **pieces),
        FilePart(b"one two", "text/plain", "D (s)", source="s", **pieces),
        FilePart(b"one", "text/plain", citations=True, source="s"),
    )
    asked = {"citations": {"enabled": True}}
    texts = [{"text": "one"}, {"text": ""}, {"text": "two"}]
    request = ChatRequest((Message("user", files),))
    for model in (CLAUDE, HIDDEN):
        body = body_of(request, model)
        assert _invalid({"modelId": model, **body}) == ""
        assert body["messages"][0]["content"] == [
            {"document": {"format": "pdf", "name": "a", "source": {"bytes": "JVBERi0="}, **asked}},
            {"document": {"format": "txt", "name": "b", "source": {"bytes": "b25l"}, **asked}},
            {"document": {"format": "txt", "name": "c", "source": {"content": texts}, **asked}},
            {"searchResult": {"source": "s", "title": "D", "content": texts, **asked}},
            {"searchResult": {"source": "s", "title": "s", "content": texts[:1], **asked}},
        ]
    for file in files:
        with pytest.raises(CapabilityError, match="cannot cite"):
            body_of(ChatRequest((Message("user", (file,)),)), NOVA)


USED = (
    USER,
    Message("assistant", (ToolCall("c", "weather"),)),
    Message("tool", (ToolResult("c", "weather", "1"),)),
)


def test_no_tools_are_shown_where_none_may_be_called() -> None:
    assert "toolConfig" not in body_of(ChatRequest((USER,), tools=(WEATHER,), tool_choice="none"))


@pytest.mark.parametrize(("choice", "told"), [("auto", {"auto": {}}), ("required", {"any": {}})])
def test_whether_a_tool_has_to_be_called_is_told(choice: ToolChoice, told: Json) -> None:
    request = ChatRequest((USER,), tools=(WEATHER,), tool_choice=choice)
    assert body_of(request)["toolConfig"]["toolChoice"] == told


@pytest.mark.parametrize(
    "request_",
    [
        ChatRequest((USER,), seed=0),
        ChatRequest((USER,), presence_penalty=0.5),
        ChatRequest((USER,), frequency_penalty=0.5),
        ChatRequest((USER,), output=JsonOutput()),
        ChatRequest((USER,), tools=(WEATHER,), parallel_tool_calls=False),
        ChatRequest(USED, tools=(WEATHER,), tool_choice="none"),
        ChatRequest((Message("user", (ImageUrlPart("https://a.b/c.png"),)),)),
        ChatRequest((Message("user", (ImagePart(b"", "image/tiff"),)),)),
    ],
)
def test_what_converse_has_no_words_for_is_refused(request_: ChatRequest) -> None:
    with pytest.raises(CapabilityError):
        DIALECT.ask(CLAUDE, request_, stream=True)


def test_top_k_is_refused_where_the_family_has_none() -> None:
    with pytest.raises(CapabilityError, match="top_k=7"):
        DIALECT.ask("meta.llama3-8b-instruct-v1:0", ChatRequest((USER,), top_k=7), stream=True)


def test_the_results_of_tools_stand_first_in_their_turn() -> None:
    late = (*USED[:2], Message("user", "Well?"), USED[2])
    turn = body_of(ChatRequest(late, tools=(WEATHER,)))["messages"][-1]
    assert [list(block) for block in turn["content"]] == [["toolResult"], ["text"]]


def test_a_strict_tool_is_shown_with_a_closed_schema() -> None:
    tool = Tool("weather", "", {"type": "object", "properties": {}}, strict=True)
    (shown,) = body_of(ChatRequest((USER,), tools=(tool,)))["toolConfig"]["tools"]
    assert shown == {
        "toolSpec": {
            "name": "weather",
            "inputSchema": {"json": {**tool.parameters, "additionalProperties": False}},
            "strict": True,
        }
    }


def test_blank_text_is_left_out_and_so_is_a_turn_of_nothing_else() -> None:
    blank = ChatRequest((USER, Message("assistant", " \n"), Message("system", " "), USER))
    assert body_of(blank) == {"messages": [{"role": "user", "content": [{"text": "Hi"}] * 2}]}
