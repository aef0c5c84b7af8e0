"""Tokens, estimated: everything that a provider counts is in it."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Certainty, Usage
from orchestra.policies.requests.tokens import (
    IMAGE_TOKENS,
    OUTPUT_TOKENS,
    Estimate,
    answer_bytes,
    of_chat,
    of_texts,
    output_bytes,
    tokens_taken,
)
from orchestra.values import (
    ChatRequest,
    EmbedRequest,
    Extras,
    FilePart,
    ImagePart,
    ImageUrlPart,
    JsonOutput,
    Message,
    ModelEvent,
    Part,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)
from tests.pdfs import pdf

PARTS: list[tuple[Part, int]] = [
    (TextPart("x" * 30), 10),
    (TextPart("é" * 15), 10),
    (TextPart("\ud800" * 10), 10),
    (ReasoningPart("x" * 30), 10),
    (ToolCall("1", "name", "x" * 26), 10),
    (ToolResult("1", "name", "x" * 30), 10),
    (ImagePart(b"x"), IMAGE_TOKENS),
    (ImageUrlPart("https://host/"), IMAGE_TOKENS),
    (FilePart(b"x" * 27, "text/plain", "abc"), 10),
    (FilePart(pdf("one", "two")), 2 * (3_000 + 1_600)),  # as Anthropic counts them
    (FilePart(b"x" * 30), 10),
]


@pytest.mark.parametrize(("part", "tokens"), PARTS)
def test_every_part_of_a_question_counts(part: Part, tokens: int) -> None:
    request = ChatRequest((Message("user", (part,)),))
    assert of_chat(request) == Estimate(tokens + 4, OUTPUT_TOKENS)


def test_tools_and_the_bound_of_the_answer_count() -> None:
    tool = Tool("name", "it does", {"type": "object"})  # 4 + 7 + 17 bytes
    request = ChatRequest((), tools=(tool,), output_tokens_max=50)
    assert of_chat(request) == Estimate(10, 50, bounded=True)
    assert of_chat(request).total == 60


@given(st.integers(0, 50))
def test_a_schema_and_what_goes_to_a_provider_count(more: int) -> None:
    """Or a client could send a hundred thousand tokens that no limit sees."""
    asked = ChatRequest((Message("user", "abc"),))
    text = "x" * 300 * more
    words = {"description": text}
    for longer in (
        attrs.evolve(asked, messages=(Message("user", "abc", text),)),
        attrs.evolve(asked, output=JsonOutput({"type": "object", **words})),
        attrs.evolve(asked, output=JsonOutput({"type": "object"}, description=text)),
        attrs.evolve(asked, output=JsonOutput({"type": "object"}, text)),
        attrs.evolve(asked, extras={"openai": {"guided_json": words}}),
    ):
        found = of_chat(longer).input - of_chat(asked).input
        assert 100 * more <= found <= 100 * more + 30


@pytest.mark.parametrize("others", [{}, {"openai": {"seed": 1}}])
def test_settings_for_our_own_policies_do_not_count(others: Extras) -> None:
    """They are not sent; so a second equal call of a run, which no cache may answer, costs as much."""
    asked = ChatRequest((Message("user", "abc"),), extras=others)
    ours = {"orchestra": {"cache": "refresh", "conversation": "c" * 300}}
    assert of_chat(attrs.evolve(asked, extras={**others, **ours})) == of_chat(asked)


def test_texts_count_together() -> None:
    assert of_texts(EmbedRequest(("x", "xy"))).total == 1


@pytest.mark.parametrize(
    ("event", "size"),
    [
        (TextDelta("abc"), 3),
        (ReasoningDelta("abc"), 3),
        (RefusalDelta("abc"), 3),
        (ToolCallDelta(0, "id", "abc", "{}"), 5),
        (Stopped(StopReason.END), 0),
    ],
)
def test_what_is_said_counts(event: ModelEvent, size: int) -> None:
    assert output_bytes(event) == size


def test_what_is_counted_counts_for_more_than_what_is_estimated() -> None:
    estimate, partial = Estimate(10, 1000), Usage(5, 2, Certainty.PARTIAL)
    assert tokens_taken(estimate, Usage(5, 2)) == 7
    assert tokens_taken(estimate, Usage(5, 2), whole=False) == 10
    assert tokens_taken(estimate, partial, output_bytes=6) == 12
    assert tokens_taken(estimate, Usage(50, 2), whole=False) == 52
    assert tokens_taken(estimate, None, output_bytes=7) == 13
    bounded = Estimate(10, 2, bounded=True)
    assert tokens_taken(bounded, None, output_bytes=288) == 12
    assert tokens_taken(bounded, None, output_bytes=289) == 107, "the provider ignores the bound"
    assert answer_bytes((TextPart("abc"), ToolCall("1", "n", "{}"))) == 6
