"""What a request needs, and what a model is known to lack for it."""

from __future__ import annotations

from contextlib import nullcontext

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import CapabilityError
from orchestra.policies.requests.needs import (
    ABILITIES,
    BYTES_PER_TOKEN,
    IMAGE_TOKENS,
    PAGE_TOKENS,
    Needs,
    fitting,
    lacks,
    needs_of,
    together,
)
from orchestra.values import (
    Capabilities,
    ChatRequest,
    EmbedRequest,
    FilePart,
    ImagePart,
    ImageUrlPart,
    JsonOutput,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
)
from tests.pdfs import pdf

TOKENS = st.integers(0, 10_000)
NEEDS = st.builds(
    Needs,
    **dict.fromkeys(ABILITIES, st.booleans()),
    context_tokens=TOKENS,
    output_tokens=st.none() | TOKENS,
)
CAN = st.builds(
    Capabilities,
    **dict.fromkeys(ABILITIES, st.none() | st.booleans()),
    context_tokens=st.none() | TOKENS,
    output_tokens_max=st.none() | TOKENS,
)
TOOL = Tool("look", "Look it up.", {"type": "object"})


def ask(*parts: Part, **more: object) -> ChatRequest:
    return ChatRequest((Message("user", parts),), **more)  # type: ignore[arg-type]


@given(NEEDS, CAN, st.data())
def test_what_is_not_known_is_never_held_against_a_model(
    needs: Needs, can: Capabilities, data: st.DataObject
) -> None:
    """Forgetting something of a model never makes it lack more; forgetting all, nothing."""
    names = [field.name for field in attrs.fields(Capabilities)]
    forgotten = data.draw(st.sets(st.sampled_from(names)))
    less = attrs.evolve(can, **dict.fromkeys(forgotten))
    assert set(lacks(needs, less)) <= set(lacks(needs, can))
    assert lacks(needs, Capabilities()) == ()


@given(NEEDS, st.lists(CAN, min_size=1, max_size=4))
def test_what_one_of_several_can_is_within_what_they_can_together(
    needs: Needs, several: list[Capabilities]
) -> None:
    if any(not lacks(needs, each) for each in several):
        assert lacks(needs, together(several)) == ()


@given(NEEDS, CAN)
def test_each_thing_that_is_lacking_is_told_once(needs: Needs, can: Capabilities) -> None:
    told = lacks(needs, can)
    for ability in ABILITIES:
        missing = getattr(needs, ability) and getattr(can, ability) is False
        assert (f"no {ability}" in told) == missing
    too_long = can.context_tokens is not None and needs.context_tokens > can.context_tokens
    assert any("of context" in each for each in told) == too_long
    assert len(set(told)) == len(told)


def test_several_are_known_to_be_unable_only_if_each_is() -> None:
    blind, seeing, unknown = Capabilities(vision=False), Capabilities(vision=True), Capabilities()
    assert together([blind, blind]).vision is False
    assert together([blind, seeing]).vision is True
    assert together([blind, unknown]).vision is None
    assert together([Capabilities(context_tokens=8), unknown]).context_tokens is None
    sizes = [Capabilities(context_tokens=8), Capabilities(context_tokens=9)]
    assert together(sizes).context_tokens == 9


@given(st.lists(st.text(max_size=50), min_size=1, max_size=5), st.none() | st.integers(1, 999))
def test_tokens_are_a_quarter_of_the_bytes_rounded_up(texts: list[str], most: int | None) -> None:
    messages = tuple(Message("user", text) for text in texts)
    found = needs_of(ChatRequest(messages, output_tokens_max=most))
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    assert found.input_tokens == -(-size // BYTES_PER_TOKEN)
    assert found.context_tokens == found.input_tokens + (most or 0)
    assert found.output_tokens == most


@given(st.lists(st.text(max_size=50), max_size=5))
def test_a_text_to_be_embedded_has_to_fit_by_itself(texts: list[str]) -> None:
    found = needs_of(EmbedRequest(tuple(texts)))
    sizes = [-(-len(text.encode("utf-8", "replace")) // 4) for text in texts]
    assert found == Needs(
        embeddings=True,
        context_tokens=max(sizes, default=0),
        input_tokens=sum(sizes),
        output_tokens=0,
    )


EXAMPLES = [
    (ask(TextPart("hello")), set()),
    (ask(ImagePart(b"x" * 10_000_000)), {"vision"}),
    (ask(ImageUrlPart("https://host/a.png")), {"vision"}),
    (ask(FilePart(b"%PDF-")), {"files"}),
    (ask(FilePart(b"x", "text/plain"), FilePart(b"x", "application/msword")), {"files"}),
    (ask(FilePart(b"x", "text/plain")), set()),
    (ask(tools=(TOOL,)), {"tools"}),
    (ChatRequest((Message("assistant", (ToolCall("1", "look"),)),)), {"tools"}),
    (ChatRequest((Message("tool", (ToolResult("1", "look", "found"),)),)), {"tools"}),
    (ask(output=JsonOutput({"type": "object"})), {"json_schema"}),
    (ask(output=JsonOutput()), set()),
    (ask(reasoning_effort="high"), {"reasoning"}),
    (ask(reasoning_effort="none"), set()),
    (ask(reasoning_effort="high", effort_if_able=True), set()),
    (EmbedRequest(("hello",)), {"embeddings"}),
]


@pytest.mark.parametrize(("request_", "needed"), EXAMPLES)
def test_abilities_are_read_off_the_request(
    request_: ChatRequest | EmbedRequest, needed: set[str]
) -> None:
    found = needs_of(request_)
    assert {ability for ability in ABILITIES if getattr(found, ability)} == needed


def test_all_that_is_sent_as_text_counts_and_an_image_by_itself() -> None:
    words = "x" * 40
    for part in (
        TextPart(words),
        ReasoningPart(words),
        ToolCall("1", "", words),
        ToolResult("1", "", words),
    ):
        assert needs_of(ask(part)).input_tokens == 10
    assert needs_of(ask(ImagePart(b"x" * 10_000_000))).input_tokens == IMAGE_TOKENS
    assert needs_of(ask(FilePart(words.encode(), "text/plain"))).input_tokens == 10
    assert needs_of(ask(FilePart(pdf("a", "b", "c")))).input_tokens == 3 * PAGE_TOKENS
    long = {"description": "x" * 4000}
    assert needs_of(ask(tools=(attrs.evolve(TOOL, parameters=long),))).input_tokens > 1000
    assert needs_of(ask(output=JsonOutput(long))).input_tokens > 1000


IMAGE, WEB_IMAGE = ImagePart(b"png"), ImageUrlPart("https://a.example/a.png")
PDF, NOTES = FilePart(pdf("one")), FilePart(b"one", "text/plain")
PARTS = st.lists(st.sampled_from([TextPart("What is it?"), IMAGE, WEB_IMAGE, PDF, NOTES]))


@given(PARTS, CAN)
def test_what_a_model_is_known_not_to_read_is_not_sent_to_it(
    parts: list[Part], can: Capabilities
) -> None:
    """Text files are sent to every model, as text."""
    request = ask(*parts)
    unread = {"no vision", "no files"} & {*lacks(needs_of(request), can)}
    what = "image" if "no vision" in unread else "file"
    with pytest.raises(CapabilityError, match=f"the {what} out") if unread else nullcontext():
        assert fitting(request, can) is request
