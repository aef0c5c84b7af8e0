"""Whoever writes a word that is not known is told those that are."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from orchestra.codecs.openai_serving.embeddings import served_embeddings
from orchestra.codecs.openai_serving.request import served_chat
from orchestra.codecs.openai_serving.responses_request import asked_response
from orchestra.errors import InvalidRequestError


def body(at: list[str | int], word: str) -> bytes:
    """A body with a word at a path; all else is right."""
    told: Any = word
    for step in reversed(at):
        told = {step: told} if isinstance(step, str) else [told]
    usual = {"model": "m", "input": "x", "messages": [{"role": "user", "content": "x"}]}
    return json.dumps({**usual, **told}).encode()


@pytest.mark.parametrize(
    ("read", "at", "first"),
    [
        (served_chat, ["messages", 0, "role"], "assistant, developer, system, tool, user"),
        (served_chat, ["tools", 0, "type"], "function"),
        (served_chat, ["tool_choice"], "auto, none, required"),
        (served_chat, ["tool_choice", "type"], "function"),
        (served_chat, ["reasoning_effort"], "high, low, max, medium, minimal, none, xhigh"),
        (served_chat, ["response_format", "type"], "json_object, json_schema, text"),
        (asked_response, ["input", 0, "role"], "assistant, developer, system, user"),
        (asked_response, ["reasoning", "effort"], "high, low, max, medium, minimal, none, xhigh"),
        (asked_response, ["text", "format", "type"], "json_object, json_schema, text"),
        (served_embeddings, ["encoding_format"], "base64, float"),
    ],
)
def test_a_word_that_is_not_known_is_answered_with_those_that_are(
    read: Any, at: list[str | int], first: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read(body(at, "qqq"))
    assert caught.value.message.endswith(f": Invalid enum value 'qqq'; known here: {first}")
    for word in first.split(", "):
        with suppress(InvalidRequestError):  # of what else it wants then, such as a name
            read(body(at, word))
            continue
        with pytest.raises(InvalidRequestError, match=r"^(?!.*Invalid enum value)"):
            read(body(at, word))
