"""Requests to Anthropic's API as clients send them to us."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.anthropic.request import BUDGETS, anthropic_body
from orchestra.codecs.anthropic_serving.request import served_messages
from orchestra.codecs.prompt_cache import is_marked
from orchestra.codecs.serving.allowlist import USUAL_ALLOWLIST, Allowlist
from orchestra.errors import InvalidRequestError
from orchestra.values import (
    ChatRequest,
    FilePart,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
)

SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False, "required": []}
MARK = {"cache_control": {"type": "ephemeral"}}
words = st.text("ab c", min_size=1, max_size=5).filter(str.strip)
texts = st.builds(TextPart, words, st.booleans())
shown = (
    texts
    | st.builds(
        *(ImagePart, st.binary(min_size=1, max_size=3), st.just("image/png")),
        prompt_cache=st.booleans(),
    )
    | st.builds(
        *(ImageUrlPart, words.map(lambda each: f"https://a.test/{each}")),
        prompt_cache=st.booleans(),
    )
    | st.builds(
        *(FilePart, st.just(b"%PDF-"), st.just("application/pdf"), st.just("a.pdf")),
        prompt_cache=st.booleans(),
    )
)
thoughts = st.builds(ReasoningPart, words, st.just("anthropic:c2Vh")) | st.just(
    ReasoningPart("", "redacted:ZGF0YQ==")
)
tools = st.lists(
    st.builds(*(Tool, words, words, st.just(SCHEMA), st.booleans(), st.booleans())),
    min_size=1,
    max_size=2,
).map(tuple)


def plain(parts: tuple[Any, ...]) -> Any:
    only = parts[0]
    alone = len(parts) == 1 and isinstance(only, TextPart) and not only.prompt_cache
    return only.text if alone else parts


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns as Anthropic has them: the two sides alternate, and results follow their calls."""
    messages = [Message("system", draw(words))] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 3))):
        said = tuple(draw(st.lists(shown, min_size=1, max_size=3)))
        messages.append(Message("user", plain(said)))
        calls = draw(st.integers(0, 2))
        parts: list[Part] = draw(st.lists(texts | thoughts, min_size=1, max_size=2))
        parts += [ToolCall(f"id{turn}_{at}", draw(words), '{"a":1}') for at in range(calls)]
        messages.append(Message("assistant", plain(tuple(parts))))
        if calls:
            results = [
                ToolResult(
                    each.id, each.name, draw(words), draw(st.booleans()), draw(st.booleans())
                )
                for each in parts
                if isinstance(each, ToolCall)
            ]
            messages += [Message("tool", tuple(results)), Message("assistant", draw(words))]
    return tuple(messages)


CHOICES: list[tuple[Any, Any]] = [
    (None, None),
    *(("none", None), (ForcedTool("f"), None)),
    *((choice, several) for choice in ("auto", "required") for several in (None, True, False)),
]
"""Of tools and calls at once, as Anthropic can tell them: where calls are meant, a choice is."""
plainly = st.builds(
    ChatRequest,
    conversations(),
    temperature=st.none() | st.sampled_from([0.0, 0.5]),
    output_tokens_max=st.integers(1, 9),
    stop=st.lists(words, max_size=2).map(tuple),
    top_p=st.none() | st.just(0.5),
    top_k=st.none() | st.just(5),
    tools=tools,
    output=st.none() | st.just(JsonOutput(SCHEMA)),
)
requests = st.builds(
    lambda asked, choice: attrs.evolve(asked, tool_choice=choice[0], parallel_tool_calls=choice[1]),
    plainly,
    st.sampled_from(CHOICES),
)


def test_what_an_answer_of_elsewhere_cites_is_passed_over() -> None:
    cited = {"type": "text", "text": "So.", "citations": [{"type": "char_location"}]}
    (message,) = asked([{"role": "assistant", "content": [cited]}]).messages
    assert message == Message("assistant", "So.")


@given(requests)
def test_what_we_ask_of_anthropic_we_read_as_what_was_asked(request: ChatRequest) -> None:
    body = anthropic_body("m", request, stream=True)
    served = served_messages(msgspec.json.encode(body))
    assert (served.model, served.stream, served.request) == ("m", True, request)


@pytest.mark.parametrize(("effort", "budget"), BUDGETS.items())
def test_a_budget_is_the_effort_that_has_it(effort: str, budget: int) -> None:
    told = {"type": "enabled", "budget_tokens": budget}
    assert asked(thinking=told).reasoning_effort == effort
    assert not asked(thinking=told).effort_if_able
    above = asked(thinking={**told, "budget_tokens": budget + 1})
    assert above.reasoning_tokens_max == budget + 1
    assert above.reasoning_effort == "max" if effort == "max" else above.reasoning_effort != effort
    for thinking in ({"type": "adaptive"}, {**told, "type": "disabled"}):
        assert asked(thinking=thinking).reasoning_tokens_max is None


def asked(said: object = "Hi", allowed: Any = USUAL_ALLOWLIST, **fields: object) -> ChatRequest:
    messages = said if isinstance(said, list) else [{"role": "user", "content": said}]
    body = {"model": "m", "max_tokens": 9, "messages": messages, **fields}
    return served_messages(msgspec.json.encode(body), allowed).request


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, None),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, "none"),
        ({"thinking": {"type": "adaptive"}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ({"output_config": {"effort": "xhigh"}}, "xhigh"),
    ],
)
def test_how_hard_to_think(fields: Json, effort: str | None) -> None:
    found = asked(**fields)
    assert found.reasoning_effort == effort
    assert found.effort_if_able is (effort is not None), "only a budget is an order"


def test_the_systems_words_are_one_text_unless_one_is_marked() -> None:
    blocks = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert asked(system=blocks).messages[0] == Message("system", "one\n\ntwo")
    marked = asked(system=[blocks[0], blocks[1] | MARK]).messages[0]
    assert marked.parts == (TextPart("one\n\n"), TextPart("two", prompt_cache=True))
    later = asked([{"role": "user", "content": "Hi"}, {"role": "system", "content": blocks}])
    assert later.messages[1] == Message("system", "one\n\ntwo")


def test_a_mark_on_the_whole_request_stands_where_the_next_one_may_begin_alike() -> None:
    (message,) = asked(**MARK).messages
    assert message.parts == (TextPart("Hi", prompt_cache=True),)
    system, message = asked(system="Be brief.", tools=[{**TOOL, **MARK}], **MARK).messages
    assert not is_marked(ChatRequest((system,))), "where marks are, it is one more, behind the last"
    assert message.parts == (TextPart("Hi", prompt_cache=True),)


def shown_block(kind: str, media_type: str, data: bytes) -> Json:
    source = {"type": "base64", "media_type": media_type, "data": b64encode(data).decode()}
    return {"type": kind, "source": source}


CALL: Json = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}],
}


def answered(content: object, *after: object, **fields: object) -> list[Json]:
    result = {"type": "tool_result", "tool_use_id": "c", "content": content, **fields}
    return [CALL, {"role": "user", "content": [result, *after]}]


def test_what_a_tool_shows_is_shown_by_the_user_in_front_of_what_they_say() -> None:
    image = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    content = [{"type": "text", "text": "see"}, {"type": "image", "source": image}]
    after = {"type": "text", "text": "well?"}
    _, tool, user = asked(answered(content, after, is_error=True, **MARK)).messages
    (result,) = tool.parts
    assert isinstance(result, ToolResult)
    assert (result.name, result.is_error, result.prompt_cache) == ("f", True, True)
    assert result.content.startswith("see\n")
    assert [type(each) for each in user.parts] == [TextPart, ImagePart, TextPart]
    assert user.parts[-1] == TextPart("well?")


pieces = st.one_of(
    words.map(lambda text: {"type": "text", "text": text}),
    st.binary(min_size=1, max_size=3).map(lambda data: shown_block("image", "image/png", data)),
    st.just(shown_block("document", "application/pdf", b"%PDF-")),
)
given_back = st.lists(st.lists(pieces, max_size=3), min_size=1, max_size=3)


@given(given_back, st.lists(pieces, max_size=2))
def test_what_tools_show_reaches_anthropic_whole_and_in_order(
    results: list[list[Json]], after: list[Json]
) -> None:
    """Behind all results, which stand first; each is the answer to the same call as before."""
    called = [{**CALL["content"][0], "id": f"c{at}"} for at, _ in enumerate(results)]
    given = [
        {"type": "tool_result", "tool_use_id": f"c{at}", "content": content}
        for at, content in enumerate(results)
    ]
    request = asked(
        [
            {"role": "assistant", "content": called},
            {"role": "user", "content": [*given, *after]},
        ]
    )
    _, turn = anthropic_body("m", request, stream=False)["messages"]
    kinds = [block["type"] for block in turn["content"]]
    ids = [block["tool_use_id"] for block in turn["content"][: len(results)]]
    assert ids == [block["tool_use_id"] for block in given]
    assert "tool_result" not in kinds[len(results) :]
    sent = [block for content in (*results, after) for block in content]
    assert [block for block in turn["content"] if block["type"] in ("image", "document")] == [
        block for block in sent if block["type"] != "text"
    ]
    for content, block in zip(results, turn["content"], strict=False):
        told = "".join(each["text"] for each in content if each["type"] == "text")
        assert block.get("content", "").replace("\n", "").startswith(told)
    assert turn["content"][len(turn["content"]) - len(after) :] == after


def test_seals_come_back_to_who_has_made_them() -> None:
    def seal(signature: str) -> object:
        block = {"type": "thinking", "thinking": "Hm", "signature": signature}
        (part,) = asked([{"role": "assistant", "content": [block]}]).messages[0].parts
        return part

    assert seal("c2Vh") == ReasoningPart("Hm", "anthropic:c2Vh")
    assert seal("gemini:c2Vh") == ReasoningPart("Hm", "gemini:c2Vh")
    assert seal("") == ReasoningPart("Hm", "")


def test_a_document_of_text_has_what_is_said_of_it_in_front() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "x"}
    block = {"type": "document", "title": "a.txt", "context": "Old.", "source": source}
    (message,) = asked([{"role": "user", "content": [block]}]).messages
    assert message.parts == (TextPart("Old."), FilePart(b"x", "text/plain", "a.txt"))


def test_what_a_search_has_found_is_a_document_and_in_a_result_its_text() -> None:
    content = [{"type": "text", "text": text} for text in ("one", "two")]
    block = {"type": "search_result", "title": "T", "source": "s", "content": content, **MARK}
    (message,) = asked([{"role": "user", "content": [block]}]).messages
    document = FilePart(
        b"one\n\ntwo",
        *("text/plain", "T (s)"),
        prompt_cache=True,
        passages=("one", "two"),
        source="s",
    )
    assert message.parts == (document,)
    name = {"type": "tool_reference", "tool_name": "g"}
    _, tool = asked(answered([block, name])).messages
    (result,) = tool.parts
    assert isinstance(result, ToolResult)
    assert result.content == "\nT (s):\n\none\n\ntwo\nThe tool 'g' can be called now.\n"
    assert result.prompt_cache


def test_a_document_may_have_its_text_in_blocks() -> None:
    def document(content: object) -> tuple[Part, ...]:
        block = {
            "type": "document",
            "title": "T",
            "source": {"type": "content", "content": content},
        }
        (message,) = asked([{"role": "user", "content": [block]}]).messages
        return message.parts

    texts = [{"type": "text", "text": text} for text in ("one", "two")]
    in_two = FilePart(b"one\n\ntwo", "text/plain", "T", passages=("one", "two"))
    assert document(texts) == (in_two,)
    assert document("one") == (FilePart(b"one", "text/plain", "T", passages=("one",)),)
    for wrong, where in (([*texts[:1], {"type": "image"}], "content[1].type"), ([], "content")):
        with pytest.raises(InvalidRequestError) as caught:
            document(wrong)
        assert caught.value.message.startswith(f"messages[0].content[0].source.{where}: ")


def test_what_is_to_be_cited_says_so_and_a_result_of_a_search_stands_behind_its_tools() -> None:
    cited = {"citations": {"enabled": True}}
    content = [{"type": "text", "text": "one"}]
    found = {"type": "search_result", "title": "T", "source": "s", "content": content}
    paper = {"type": "document", "source": {"type": "text", "data": "x"}}
    (message,) = asked([{"role": "user", "content": [{**paper, **cited}]}]).messages
    assert message.parts == (FilePart(b"x", "text/plain", citations=True),)
    _, tool, user = asked(answered([{**found, **cited}])).messages
    assert [type(part) for part in tool.parts] == [ToolResult]
    result = FilePart(b"one", "text/plain", "T (s)", passages=("one",), source="s")
    assert user.parts[-1] == attrs.evolve(result, citations=True)
    for disabled in ({"enabled": False}, {}, None):
        (message,) = asked(
            [{"role": "user", "content": [{**paper, "citations": disabled}]}]
        ).messages
        assert message.parts == (FilePart(b"x", "text/plain"),)


def test_without_threads_their_clients_are_told_to_go_on_without() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        asked(thread={"type": "create"})
    assert caught.value.code == "thread_unsupported_request"


def test_what_we_have_no_field_for_reaches_anthropic_alone() -> None:
    found = asked(service_tier="auto", metadata={"user_id": "u"}, orchestra={"cache": "off"})
    assert found.extras == {
        "anthropic": {"service_tier": "auto", "metadata": {"user_id": "u"}},
        "orchestra": {"cache": "off"},
    }
    assert not asked(context_management={"edits": []}).extras, "Anthropic wants a beta for it"
    assert not asked(diagnostics={"previous_message_id": "msg_1"}).extras, "the id is one of ours"
    assert not asked(anthropic_version="vertex-2023-10-16").extras, "it is a header at Anthropic"


def test_the_older_place_of_a_schema_is_read() -> None:
    wanted = {"type": "json_schema", "schema": SCHEMA}
    assert asked(output_format=wanted).output == JsonOutput(SCHEMA)
    assert asked(output_config={"format": wanted}).output == JsonOutput(SCHEMA)


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}


def shows(**block: object) -> list[Json]:
    return [{"role": "user", "content": [block]}]


@pytest.mark.parametrize(
    ("fields", "begins"),
    [
        ({"tools": [SEARCH]}, "tools[0].type: 'web_search_20250305' is a tool that Anthropic"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema: it is missing"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name: it is missing"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name: it is missing"),
        (
            {"mcp_servers": [{"type": "url"}]},
            "mcp_servers: this server does not connect to MCP servers",
        ),
        ({"container": "c"}, "container: this server has no containers"),
        ({"thread": {"type": "create"}}, "thread: conversations are not stored at a provider"),
        (
            {"compaction": {"type": "summarize"}},
            "compaction: this server does not summarize conversations",
        ),
        ({"speed": "fast"}, "speed: it would have the provider"),
        ({"workspace_id": "w"}, "workspace_id: it would have the provider"),
        ({"billing_policy": {"bill_to": "self"}}, "billing_policy: it would have the provider"),
        ({"anthropic_beta": ["context-1m"]}, "anthropic_beta: it would have the provider"),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"thinking": {"type": "much"}}, "thinking.type: Invalid enum value 'much'; known here: "),
        ({"system": [{"type": "image"}]}, "system[0].type: a block of type 'image'"),
        ({"said": [{"role": "tool", "content": ""}]}, "messages[0].role: Invalid enum value"),
        ({"said": []}, "messages: "),
        ({"said": [{"role": "user", "content": []}]}, "messages[0].content: it is an empty list"),
        (
            {"said": shows(type="search_result", source="https://a.test/", title="t", content=[])},
            "messages[0].content[0].content: it has no text",
        ),
        ({"said": shows(type="search_result")}, "messages[0].content[0].type: a block of type 's"),
        ({"said": shows(type="text")}, "messages[0].content[0].type: a block of type 'text'"),
        ({"said": shows(type="tool_result")}, "messages[0].content[0].tool_use_id: it is missing"),
        (
            {"said": shows(type="tool_result", tool_use_id="x")},
            "messages[0].content[0].tool_use_id: no tool call before it has the id 'x'",
        ),
        (
            {"said": shows(type="image", source={"type": "file", "file_id": "f"})},
            "messages[0].content[0].source.type: an image of source type 'file' cannot be read",
        ),
        (
            {"said": shows(type="image", source={"type": "base64", "data": "!"})},
            "messages[0].content[0].source.data: its data is not base64",
        ),
        (
            {"said": shows(type="image", source={"type": "url", "url": "http://10.0.0.1/"})},
            "messages[0].content[0].source.url: an image at 'http://10.0.0.1/'",
        ),
        (
            {"said": shows(type="document", source={"type": "url", "url": "https://a.test/"})},
            "messages[0].content[0].source.type: a document of source type 'url' cannot be read",
        ),
        (
            {"said": shows(type="document", source={"type": "base64", "data": "!"})},
            "messages[0].content[0].source.data: its data is not base64",
        ),
        (
            {"said": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
            "messages[0].content[0].type: a block of type 'server_tool_use' cannot be read here",
        ),
    ],
)
def test_what_is_not_served_is_refused_with_its_path(fields: Any, begins: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        asked(**fields)
    assert caught.value.message.startswith(begins)


def test_what_a_server_lets_pass_reaches_anthropic() -> None:
    found = asked(allowed=Allowlist(fields=frozenset(("speed",))), speed="fast")
    assert found.extras == {"anthropic": {"speed": "fast"}}
    assert asked(speed="standard").extras == {"anthropic": {"speed": "standard"}}
