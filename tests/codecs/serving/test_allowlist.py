"""What of a client's request may reach a provider under the server's credentials."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.anthropic_serving.body import MessagesBody
from orchestra.codecs.anthropic_serving.request import served_messages
from orchestra.codecs.openai.quirks import GENERIC, OPENAI, Quirks
from orchestra.codecs.openai.request import chat_body
from orchestra.codecs.openai_serving.body import ChatBody
from orchestra.codecs.openai_serving.embeddings import EmbeddingsBody, served_embeddings
from orchestra.codecs.openai_serving.request import STORED_DEPTH_MAX, served_chat
from orchestra.codecs.openai_serving.responses_body import ResponsesBody
from orchestra.codecs.openai_serving.responses_request import asked_response, served_response
from orchestra.codecs.serving.allowlist import GUARDED, USUAL_ALLOWLIST, Allowlist
from orchestra.codecs.serving.errors import error_reply
from orchestra.errors import InvalidRequestError
from orchestra.values import ChatRequest, ImagePart, ImageUrlPart

USER = {"role": "user", "content": "Hi"}
PNG = "data:image/png;base64,AAAA"


def ask(allowed: Allowlist = USUAL_ALLOWLIST, **fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": [USER]} | fields
    return served_chat(json.dumps(body).encode(), allowed).request


def embed(allowed: Allowlist = USUAL_ALLOWLIST, **fields: Any) -> object:
    return served_embeddings(json.dumps({"model": "m", "input": "a", **fields}).encode(), allowed)


def respond(allowed: Allowlist = USUAL_ALLOWLIST, **fields: Any) -> ChatRequest:
    asked = asked_response(json.dumps({"model": "m", "input": "Hi", **fields}).encode())
    return served_response(asked, asked.items(), allowed).request


def message(allowed: Allowlist = USUAL_ALLOWLIST, **fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": [USER], "max_tokens": 5, **fields}
    return served_messages(json.dumps(body).encode(), allowed).request


def shown(url: str, allowed: Allowlist = USUAL_ALLOWLIST) -> object:
    part = {"type": "image_url", "image_url": {"url": url}}
    (message,) = ask(allowed, messages=[{"role": "user", "content": [part]}]).messages
    return message.parts[0]


@pytest.mark.parametrize("ask", [ask, embed])
@given(st.sampled_from(GUARDED), st.sampled_from([{}, [], "x", 1, True, False, {"a": [1]}]))
def test_what_would_choose_for_the_server_is_refused_unless_it_lets_it_pass(
    ask: Any, field: str, value: object
) -> None:
    for spelled in (field, field.upper()):  # some read names in either case
        with pytest.raises(InvalidRequestError, match=rf"pass_fields = \[\"{field}\"\]"):
            ask(**{spelled: value})
    with pytest.raises(InvalidRequestError) as caught:
        ask(**{field: value})
    told = error_reply(caught.value)
    assert (told.param, told.status) == (field, 400)
    assert ask(Allowlist(fields=frozenset((field,))), **{field: value})
    assert ask(**{field: None}) == ask()


READ = [(ask, ChatBody), (embed, EmbeddingsBody), (respond, ResponsesBody), (message, MessagesBody)]
FIELDS = [(read, field) for read, body in READ for field in body.__struct_fields__]


@given(st.sampled_from(FIELDS), st.data())
def test_no_extra_is_a_field_in_other_letters(at: tuple[Any, str], data: st.DataObject) -> None:
    """Servers in Go read `MODEL`, and even `me\u017f\u017fages`, as that field; the last counts."""
    read, field = at
    letters = (st.sampled_from((each, each.upper(), _LIKE.get(each, each))) for each in field)
    spelled = "".join(data.draw(st.tuples(*letters).filter(lambda some: "".join(some) != field)))
    with pytest.raises(InvalidRequestError, match=f"some providers read it as '{field}'"):
        read(**{spelled: 1})


@given(st.sampled_from(GUARDED).filter(lambda field: "s" in field))
def test_no_guarded_field_passes_in_other_letters(field: str) -> None:
    fields: dict[str, Any] = {field.replace("s", _LIKE["s"]): {}}
    with pytest.raises(InvalidRequestError, match="pass_fields"):
        ask(**fields)


@pytest.mark.parametrize("quirks", [OPENAI, GENERIC])
@given(field=st.sampled_from(ChatBody.__struct_fields__), value=st.sampled_from([2, [USER], "x"]))
def test_a_response_cannot_say_otherwise_to_the_provider(
    field: str, value: Any, quirks: Quirks
) -> None:
    """What was checked, held for and cached is what the provider is asked: the same question."""
    before = respond(max_output_tokens=5)
    try:
        after = respond(max_output_tokens=5, **{field: value})
    except InvalidRequestError:
        return
    sent, usual = (chat_body("m", each, quirks, stream=False) for each in (after, before))
    limits = ("n", "max_tokens", "max_completion_tokens")
    assert sent["messages"] == usual["messages"]
    assert {key: sent.get(key) for key in limits} == {key: usual.get(key) for key in limits}


_LIKE = {"s": "\u017f", "k": "\u212a"}
"""Letters that fold to another: the long s, and the sign of the kelvin."""


@pytest.mark.parametrize(
    ("read", "instead"), [(ask, "send `max_tokens`"), (respond, "send `max_output_tokens`")]
)
def test_the_length_that_is_held_for_is_the_one_that_counts(read: Any, instead: str) -> None:
    """At llama.cpp, `n_predict` counts before `max_tokens`."""
    for field in ("n_predict", "N_PREDICT"):
        with pytest.raises(InvalidRequestError, match=f"there is no field `{field}`: {instead}"):
            read(**{field: 100_000})


@pytest.mark.parametrize(
    ("read", "instead"), [(ask, "send `n`"), (respond, "a response has one answer")]
)
def test_the_number_of_answers_that_is_held_for_is_the_one_that_counts(
    read: Any, instead: str
) -> None:
    """At llama.cpp, `n_cmpl` counts before `n`."""
    with pytest.raises(InvalidRequestError, match=f"there is no field `n_cmpl`: {instead}"):
        read(n_cmpl=8)


@pytest.mark.parametrize(
    ("field", "instead"), [("messages", "send `input`"), ("N", "a response has one answer")]
)
def test_a_field_of_chats_in_a_response_is_told_by_its_own_name(field: str, instead: str) -> None:
    """Its path in a response would be that of another field."""
    fields: dict[str, Any] = {field: [USER]}
    with pytest.raises(InvalidRequestError) as caught:
        respond(**fields)
    told = error_reply(caught.value).worded({"messages": "input", "n": "x"})
    assert told.message.startswith(f"there is no field `{field}`: {instead}")
    assert (told.status, told.param) == (400, None)


def test_text_is_what_an_answer_is_of_anyway() -> None:
    assert ask(modalities=["text"]).extras == {"openai": {"modalities": ["text"]}}
    with pytest.raises(InvalidRequestError, match="modalities: "):
        ask(modalities=["text", "audio"])
    allowed = Allowlist(fields=frozenset(("modalities", "audio")))
    said = {"modalities": ["audio"], "audio": {"voice": "a"}}
    assert ask(allowed, **said).extras == {"openai": said}


def test_who_pays_decides_how_fast_an_answer_is() -> None:
    """A budget counts the usual price; OpenAI's `priority` costs up to twice as much."""
    for tier in ("priority", "fast", "scale", "performance"):
        with pytest.raises(InvalidRequestError, match="service_tier: "):
            ask(service_tier=tier)
        allowed = ask(Allowlist(fields=frozenset(("service_tier",))), service_tier=tier)
        assert allowed.extras == {"openai": {"service_tier": tier}}
    for tier in ("auto", "default", "flex", "standard_only", "on_demand"):
        assert ask(service_tier=tier).extras == {"openai": {"service_tier": tier}}


@pytest.mark.parametrize(
    "url",
    [
        *("gs://b/x.png", "s3://b/x.png", "file:///etc/passwd", "/etc/passwd", "", "https", "cat"),
        *("http://169.254.169.254/latest/meta-data/", "HTTP://10.0.0.1/", " https://a.example/"),
        *("DATA:image/png;base64,AAAA", "javascript:1", "://x"),
    ],
)
def test_an_image_that_only_the_provider_may_read_is_refused(url: str) -> None:
    with pytest.raises(
        InvalidRequestError, match=r"messages\[0\]\.content\[0\]\.image_url: an image"
    ) as at:
        shown(url)
    assert "send one at https: or, in the request itself" in str(at.value)


def test_others_are_shown() -> None:
    for url in ("https://a.example/x.png", "HTTPS://a.example/x.png"):
        assert shown(url) == ImageUrlPart(url)
    assert shown(PNG) == ImagePart(b"\0\0\0", "image/png")
    allowed = Allowlist(image_schemes=frozenset(("gs",)))
    assert shown("gs://b/x.png", allowed) == ImageUrlPart("gs://b/x.png")
    assert shown(PNG, allowed) == ImagePart(b"\0\0\0", "image/png")
    with pytest.raises(InvalidRequestError, match="send one at gs: or"):
        shown("https://a.example/x.png", allowed)


@given(st.integers(1, 400), st.sampled_from("[{"))
def test_what_is_to_be_kept_is_not_nested_deeper_than_it_can_be_read(depth: int, kind: str) -> None:
    inner = (kind == "[" and "[" * depth + "]" * depth) or '{"a":' * depth + "1" + "}" * depth
    body = '{"model":"m","messages":[{"role":"user","content":"Hi","foo":%s}],"store":%s}'
    assert not served_chat((body % (inner, "false")).encode()).store
    if depth + 2 <= STORED_DEPTH_MAX:
        assert served_chat((body % (inner, "true")).encode()).store
        return
    with pytest.raises(InvalidRequestError, match="messages: it is nested deeper than 200"):
        served_chat((body % (inner, "true")).encode())
