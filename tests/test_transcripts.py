"""A transcript is read as it was written; anything else is refused, and never half read."""

from __future__ import annotations

import json
import pickle
from contextlib import suppress
from typing import get_args

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.errors import StoreError
from orchestra.transcripts import (
    KINDS,
    ApprovalNeededError,
    last_turns,
    open_calls,
    read_messages,
    write_messages,
)
from orchestra.values import (
    FilePart,
    ImagePart,
    ImageUrlPart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
)

texts = st.text(st.characters())  # with lone surrogates, which a cut text may end in
flags, blobs = st.booleans(), st.binary(max_size=40)
parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(TextPart, texts, flags),
    st.builds(ImagePart, blobs, texts, detail=st.none() | texts, prompt_cache=flags),
    st.builds(ImageUrlPart, texts, st.none() | texts, flags),
    st.builds(
        FilePart,
        *(blobs, texts, texts),
        prompt_cache=flags,
        citations=flags,
        source=texts,
        passages=st.lists(texts, max_size=2).map(tuple),
    ),
    st.builds(ReasoningPart, texts, texts),
    st.builds(ToolCall, texts, texts, texts, texts),
    st.builds(ToolResult, texts, texts, texts, flags, flags),
)
messages = st.builds(
    Message,
    st.sampled_from(get_args(Role)),
    texts | st.lists(parts, max_size=4).map(tuple),
    st.none() | texts,
)
conversations = st.lists(messages, max_size=4)


@given(conversations)
@example([Message("assistant", "cut in the middle of a character: \ud83d")])
def test_what_was_written_is_read(told: list[Message]) -> None:
    written = write_messages(told)
    assert read_messages(written) == told
    assert read_messages(written.decode()) == told


def test_every_field_of_every_part_is_written() -> None:
    """The law above holds for all classes and fields that there are."""
    assert set(KINDS.values()) == {*get_args(Part)}
    for kind in KINDS.values():
        assert "type" not in attrs.fields_dict(kind)


@given(conversations, st.data())
def test_a_transcript_that_is_cut_is_refused(told: list[Message], data: st.DataObject) -> None:
    written = write_messages(told)
    cut = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises(StoreError, match="a transcript cannot be read"):
        read_messages(written[:cut])


FOREIGN = {
    "not JSON": b"hello",
    "not UTF-8": b'[{"role": "user", "content": "\xff"}]',
    "deep": b"[" * 100_000,
    "not a list": b'{"role": "user", "content": "x"}',
    "no content": b'[{"role": "user"}]',
    "another role": b'[{"role": "developer", "content": "x"}]',
    "another part": b'[{"role": "user", "content": [{"type": "video"}]}]',
    "no type": b'[{"role": "user", "content": [{"text": "x"}]}]',
    "a list as type": b'[{"role": "user", "content": [{"type": []}]}]',
    "a field is missing": b'[{"role": "user", "content": [{"type": "text"}]}]',
    "a field is wrong": b'[{"role": "user", "content": [{"type": "text", "text": 5}]}]',
    "not base64": b'[{"role": "user", "content": [{"type": "image", "data": "?"}]}]',
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_transcript_is_refused(data: bytes) -> None:
    with pytest.raises(StoreError, match="give read_messages the bytes that write_messages"):
        read_messages(data)


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_any_bytes_are_read_or_refused(data: bytes | str) -> None:
    with suppress(StoreError):
        assert read_messages(data) == []


def test_the_form_is_stable() -> None:
    """What one version has written lies in databases when the next one reads it."""
    told = [
        Message("user", (TextPart("a"),), "ada"),
        Message("assistant", (ReasoningPart("hm", "anthropic:x"), ToolCall("1", "f", '{"a": 1}'))),
        Message("tool", (ToolResult("1", "f", "done", is_error=True),)),
        Message("user", (ImagePart(b"\0\1", prompt_cache=True), ImageUrlPart("https://x.example"))),
    ]
    assert json.loads(write_messages(told)) == [
        {"role": "user", "content": [{"type": "text", "text": "a"}], "name": "ada"},
        {
            "role": "assistant",
            "content": [
                {"type": "reasoning", "text": "hm", "signature": "anthropic:x"},
                {"type": "tool_call", "id": "1", "name": "f", "arguments": '{"a": 1}'},
            ],
        },
        {
            "role": "tool",
            "content": [
                {
                    "type": "tool_result",
                    "call_id": "1",
                    "name": "f",
                    "content": "done",
                    "is_error": True,
                }
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "image", "data": "AAE=", "prompt_cache": True},
                {"type": "image_url", "url": "https://x.example"},
            ],
        },
    ]
    later = b'[{"role": "user", "content": [{"type": "text", "text": "a", "new": 1}], "new": 1}]'
    assert read_messages(later) == [Message("user", (TextPart("a"),))]
    by_hand = (
        b'[{"role": "user", "content": [{"type": "image", "data": "", "media_type": "image/jpg"}]}]'
    )
    assert read_messages(by_hand) == [Message("user", (ImagePart(b"", "image/jpeg"),))]


def test_the_error_names_the_tools_and_nothing_that_was_said() -> None:
    call = ToolCall("1", "pay", '{"card": "4111"}')
    error = ApprovalNeededError([Message("user", "my card is 4111")], [call, call])
    assert "approval: pay;" in str(error)
    assert "4111" not in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (again.messages, again.calls) == (error.messages, error.calls)


@st.composite
def turns(draw: st.DrawFn) -> list[Message]:
    """A turn: the user's message, rounds of tool calls, and an answer."""
    told = [Message("user", draw(st.sampled_from(["a", ""])))]
    for number in range(draw(st.integers(0, 2))):
        call_id = f"call_{number}"  # as of servers that count the calls of each answer
        told.append(Message("assistant", (ToolCall(call_id, "look", "{}"),)))
        told.append(Message("tool", (ToolResult(call_id, "look", "seen"),)))
        if draw(flags):
            told.append(Message("user", (TextPart("Shown:"), ImagePart(b"png"))))
    return [*told, *draw(st.sampled_from([[], [Message("assistant", "b")]]))]


@given(st.lists(turns(), max_size=5), st.integers(1, 7))
def test_the_last_turns_begin_with_the_user_and_part_no_call_from_its_result(
    several: list[list[Message]], most: int
) -> None:
    messages = [each for turn in several for each in turn]
    assert last_turns(messages, most) == [each for turn in several[-most:] for each in turn]


def test_all_messages_are_kept_if_there_are_few_turns() -> None:
    begins = [Message("system", "Be kind."), Message("assistant", "Hi!"), Message("user", "Hi!")]
    assert last_turns(begins, 2) == begins
    assert last_turns(begins, 1) == begins[2:]
    assert last_turns([], 1) == []
    with pytest.raises(ValueError, match=r"last_turns\(most=0\): it must be 1 or more"):
        last_turns(begins, 0)


def test_a_call_is_open_until_its_result_follows() -> None:
    one, two = ToolCall("1", "f", "{}"), ToolCall("2", "f", "{}")
    asked, result = Message("assistant", (one, two)), ToolResult("1", "f", "done")
    assert open_calls([asked, Message("user", "Well?")]) == (one, two)
    assert open_calls([asked, Message("tool", (result,))]) == (two,)
    assert open_calls([Message("tool", (result,)), asked]) == (one, two)
    assert open_calls([asked, Message("assistant", "Done.")]) == ()
    assert open_calls([Message("user", "Hi!")]) == open_calls([]) == ()
