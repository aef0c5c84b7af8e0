"""How likely tokens were: read in OpenAI's form, passed over in any other, and asked for."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra.codecs.anthropic.request import anthropic_body
from orchestra.codecs.cohere.request import chat_body as cohere_body
from orchestra.codecs.gemini.request import gemini_body
from orchestra.codecs.ollama.request import chat_body as ollama_body
from orchestra.codecs.openai.logprobs import logprobs_of
from orchestra.codecs.openai.quirks import MISTRAL, OPENAI
from orchestra.codecs.openai.request import chat_body
from orchestra.errors import CapabilityError
from orchestra.logprobs import Logprobs, TokenLogprob
from orchestra.values import (
    ChatRequest,
    Message,
)
from tests.codecs.openai_streams import chunk, said

LIKELY = {"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": []}
ASKED = ChatRequest((Message("user", "Hi"),), logprobs=2)


def test_they_come_before_the_text_that_they_are_of() -> None:
    with_likely = chunk({"content": "Hi"})
    with_likely["choices"][0]["logprobs"] = {"content": [LIKELY]}
    answer = said(with_likely, chunk({}, "stop"))
    token = TokenLogprob("Hi", -0.25, (72, 105))
    assert (answer.text, answer.logprobs) == ("Hi", Logprobs((token,)))


@pytest.mark.parametrize(
    "record",
    [
        None,
        {},
        [],
        "no",
        {"content": []},
        {"tokens": ["Hi"], "token_logprobs": [-0.25]},  # Together
        {"content": [{"token": 3}]},
    ],
)
def test_what_is_in_another_form_ends_no_answer(record: Any) -> None:
    assert logprobs_of(record) is None
    odd = chunk({"content": "Hi"}, "stop")
    odd["choices"][0]["logprobs"] = record
    assert said(odd).text == "Hi"


def test_a_token_that_is_as_good_as_impossible_ends_no_answer() -> None:
    odd = chunk({"content": "Hi"}, "stop")
    odd["choices"][0]["logprobs"] = {"content": [LIKELY | {"logprob": float("-inf")}]}
    answer = said(odd)
    assert answer.logprobs == Logprobs((TokenLogprob("Hi", -9999.0, (72, 105)),))
    assert answer.text == "Hi"


def test_they_are_asked_for_where_the_server_has_a_word_for_them() -> None:
    body = chat_body("m", ASKED, OPENAI, stream=False)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
    only = chat_body("m", ChatRequest(ASKED.messages, logprobs=0), OPENAI, stream=False)
    assert "top_logprobs" not in only
    assert only["logprobs"] is True
    with pytest.raises(CapabilityError, match="logprobs=2"):
        chat_body("m", ASKED, MISTRAL, stream=False)


@pytest.mark.parametrize(
    "body",
    [
        lambda: anthropic_body("m", ASKED, False),
        lambda: cohere_body("m", ASKED, stream=False),
        lambda: gemini_body("m", ASKED),
        lambda: ollama_body("m", ASKED, stream=False),
    ],
)
def test_who_cannot_tell_them_says_so(body: Any) -> None:
    with pytest.raises(CapabilityError, match="logprobs=2 cannot be sent to"):
        body()


def test_pieces_of_them_are_one() -> None:
    one, two = Logprobs((TokenLogprob("a", -1.0),)), Logprobs((), (TokenLogprob("b", -1.0),))
    assert one + two == Logprobs(one.content, two.refusal)
