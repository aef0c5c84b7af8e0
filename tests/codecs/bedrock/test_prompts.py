"""What models are asked by InvokeModel, family by family."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.errors import CapabilityError
from orchestra.values import (
    ChatRequest,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Message,
    ReasoningPart,
    Role,
    TextPart,
    Tool,
)

CLAUDE = "us.anthropic.claude-sonnet-4-6"
NOVA = "us.amazon.nova-lite-v1:0"
TITAN = "amazon.titan-text-express-v1"
LLAMA = "us.meta.llama3-1-8b-instruct-v1:0"
LLAMA_4 = "us.meta.llama4-scout-17b-instruct-v1:0"
MISTRAL = "mistral.mistral-7b-instruct-v0:2"
FAMILIES = (CLAUDE, NOVA, TITAN, LLAMA, MISTRAL)
TEXT_ONLY = (TITAN, LLAMA, MISTRAL)
USER = Message("user", "Hi")
WEATHER = Tool("weather", "Tells the weather", {"type": "object", "properties": {}})
TALK = ChatRequest(
    (
        Message("system", "Be brief"),
        Message("user", "Hi"),
        Message("assistant", (ReasoningPart("hm", "seal"), TextPart("Hello"))),
        Message("user", "And"),
        Message("user", "now?"),
    ),
    temperature=0.5,
    output_tokens_max=9,
    top_p=0.25,
)
SAMPLED = {"temperature": 0.5, "top_p": 0.25}


def body_of(model: str, request: ChatRequest, family: str = "") -> Json:
    call = BedrockInvokeDialect(family=family).ask(model, request, stream=True)
    assert call.path.endswith("/invoke-with-response-stream")
    body: Json = json.loads(call.body)
    return body


def test_llama_is_asked_in_its_template() -> None:
    assert body_of(LLAMA, TALK) == {
        "prompt": "<|begin_of_text|>"
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nAnd\n\nnow?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "max_gen_len": 9,
        **SAMPLED,
    }


def test_llama_4_has_other_marks() -> None:
    assert body_of(LLAMA_4, ChatRequest((USER,)))["prompt"] == (
        "<|begin_of_text|><|header_start|>user<|header_end|>\n\nHi<|eot|>"
        "<|header_start|>assistant<|header_end|>\n\n"
    )


def test_mistral_is_asked_in_its_template() -> None:
    assert body_of(MISTRAL, TALK) == {
        "prompt": "<s>[INST] Be brief\n\nHi [/INST] Hello</s>[INST] And\n\nnow? [/INST]",
        "max_tokens": 9,
        **SAMPLED,
    }


def test_titan_is_asked_in_its_template() -> None:
    assert body_of(TITAN, TALK) == {
        "inputText": "Be brief\nUser: Hi\nBot: Hello\nUser: And\n\nnow?\nBot:",
        "textGenerationConfig": {"maxTokenCount": 9, "temperature": 0.5, "topP": 0.25},
    }


@pytest.mark.parametrize(
    ("model", "key", "end"),
    [
        (LLAMA, "prompt", "assistant<|end_header_id|>\n\nOne, two"),
        (MISTRAL, "prompt", "[/INST] One, two"),
        (TITAN, "inputText", "Bot: One, two"),
    ],
)
def test_an_answer_that_is_begun_is_left_open(model: str, key: str, end: str) -> None:
    begun = ChatRequest((Message("user", "Count"), Message("assistant", "One, two")))
    assert body_of(model, begun)[key].endswith(end)


MARKS = ("<|eot_id|>", "<|start_header_id|>", "[INST]", "[/INST]", "</s>", "<s>", "<<SYS>>")
TITANS_MARKS = (r"\nUser:", r"\nBot:")
"""As they are written in JSON."""


@given(
    st.sampled_from(TEXT_ONLY),
    st.lists(st.sampled_from(MARKS + TITANS_MARKS) | st.text(max_size=3), max_size=6),
    st.sampled_from(("user", "system")),
)
def test_nobody_speaks_in_anothers_role(model: str, said: list[str], role: Role) -> None:
    """The marks that a text holds are not those of the template."""
    text = "".join(said).replace(r"\n", "\n")
    plain = json.dumps(body_of(model, ChatRequest((Message(role, "x"), USER))))
    marked = json.dumps(body_of(model, ChatRequest((Message(role, f"x{text}"), USER))))
    for mark in MARKS + (TITANS_MARKS if model == TITAN else ()):
        assert marked.count(mark) == plain.count(mark)


def test_claude_is_asked_as_at_anthropic_without_model_and_stream() -> None:
    body = body_of(CLAUDE, TALK)
    assert body["anthropic_version"] == "bedrock-2023-05-31"
    assert body["system"] == "Be brief"
    assert body["max_tokens"] == 9
    assert [each["role"] for each in body["messages"]] == ["user", "assistant", "user"]
    assert not {"model", "stream"} & set(body)


def test_nova_is_asked_as_by_converse_with_a_version() -> None:
    request = ChatRequest(
        (USER,), top_k=3, output_tokens_max=9, tools=(WEATHER,), tool_choice=ForcedTool("weather")
    )
    assert body_of(NOVA, request) == {
        "schemaVersion": "messages-v1",
        "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
        "inferenceConfig": {"maxTokens": 9, "topK": 3},
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
    }


@pytest.mark.parametrize("model", FAMILIES)
def test_extras_go_into_the_body(model: str) -> None:
    request = ChatRequest((USER,), extras={"bedrock": {"odd": {"deep": 1}}, "openai": {"no": 1}})
    body = body_of(model, request)
    assert body["odd"] == {"deep": 1}
    assert "no" not in body


def test_stop_and_top_k_are_told_to_those_that_know_them() -> None:
    request = ChatRequest((USER,), stop=("END",), top_k=4)
    assert {"stop": ["END"], "top_k": 4}.items() <= body_of(MISTRAL, request).items()
    titan = body_of(TITAN, ChatRequest((USER,), stop=("END",)))
    assert titan["textGenerationConfig"] == {"stopSequences": ["END"]}


@pytest.mark.parametrize("model", TEXT_ONLY)
@pytest.mark.parametrize(
    "request_",
    [
        ChatRequest((USER,), tools=(WEATHER,)),
        ChatRequest((USER,), output=JsonOutput()),
        ChatRequest((USER,), reasoning_effort="low"),
        ChatRequest((USER,), seed=0),
        ChatRequest((USER,), presence_penalty=0.5),
        ChatRequest((USER,), frequency_penalty=0.5),
        ChatRequest((Message("user", (ImagePart(b""),)),)),
    ],
)
def test_what_a_template_has_no_words_for_is_refused(model: str, request_: ChatRequest) -> None:
    with pytest.raises(CapabilityError):
        body_of(model, request_)


@pytest.mark.parametrize(
    ("model", "request_"),
    [
        (TITAN, ChatRequest((USER,), top_k=3)),
        (LLAMA, ChatRequest((USER,), top_k=3)),
        (LLAMA, ChatRequest((USER,), stop=("END",))),
        (NOVA, ChatRequest((USER,), seed=0)),
        (NOVA, ChatRequest((USER,), output=JsonOutput({}))),
        (NOVA, ChatRequest((USER,), reasoning_effort="low")),
        (CLAUDE, ChatRequest((USER,), seed=0)),
        (CLAUDE, ChatRequest((Message("user", (ImageUrlPart("https://a.b/c.png"),)),))),
    ],
)
def test_what_a_family_has_no_words_for_is_refused(model: str, request_: ChatRequest) -> None:
    with pytest.raises(CapabilityError):
        body_of(model, request_)


@pytest.mark.parametrize("model", TEXT_ONLY)
def test_no_effort_and_a_wish_for_one_are_nothing_to_refuse(model: str) -> None:
    plain = body_of(model, ChatRequest((USER,)))
    assert body_of(model, ChatRequest((USER,), reasoning_effort="none")) == plain
    wished = ChatRequest((USER,), reasoning_effort="high", effort_if_able=True)
    assert body_of(model, wished) == plain


def test_the_family_is_named_where_the_id_does_not_tell_it() -> None:
    arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"
    assert "prompt" in body_of(arn, ChatRequest((USER,)), "meta.llama3")
    with pytest.raises(CapabilityError, match="name the model's family"):
        body_of(arn, ChatRequest((USER,)))
