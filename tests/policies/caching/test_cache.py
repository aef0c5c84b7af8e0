"""The cache, pure: what shares a key, what is kept, and what comes back of it."""

from __future__ import annotations

import re

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.errors import InvalidRequestError
from orchestra.logprobs import Logprobs, TokenLogprob
from orchestra.policies.answers.replayed import PIECE_CHARS, events_of
from orchestra.policies.caching.cache import (
    Recording,
    decode,
    decode_vector,
    encode,
    encode_vector,
    key_of,
    keys_of_texts,
    sealed,
    storable,
)
from orchestra.policies.requests.extras import CACHE, cache_mode_in, check_words, without
from orchestra.values import (
    ChatRequest,
    EmbedRequest,
    Message,
    ModelEvent,
    ReasoningDelta,
    ReasoningPart,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
    Tool,
    ToolCallDelta,
    Vector,
)
from tests.policies.drawn_answers import REQUESTS, WORDS, broken_answers, whole_answers

HELLO = ChatRequest((Message("user", "hello"),))
ROOM = 1 << 20


def free(answer: Completion) -> Completion:
    """The same answer, at no cost."""
    return attrs.evolve(answer, usage=Usage())


@given(whole_answers())
def test_what_comes_back_is_what_was_said_free_of_charge(said: tuple[ModelEvent, ...]) -> None:
    """As a value, and as a stream that is told anew."""
    answer = Completion.of(said)
    data = encode("k", answer, ROOM)
    assert data is not None
    found = decode("k", data)
    assert found is not None
    assert found[0] == free(answer)
    again = tuple(events_of(*found))
    assert Completion.of(again) == free(answer)
    assert isinstance(again[-1], Stopped)
    assert all(len(e.text) <= PIECE_CHARS for e in again if isinstance(e, TextDelta))


def test_what_is_told_anew_is_all_that_was_told() -> None:
    """Also what is not kept: who joins a call is told it, too."""
    likely = Logprobs((TokenLogprob("No", -0.5),))
    whole = Completion(
        (ReasoningPart("Hm", "s"), TextPart("No")),
        Stopped(StopReason.CONTENT_FILTER),
        Usage(1, 2),
        "I cannot",
        "a1",
        "gpt",
        likely,
    )
    assert Completion.of(events_of(whole)) == whole


@given(broken_answers())
def test_what_is_not_whole_is_never_kept(said: tuple[ModelEvent, ...]) -> None:
    recording = Recording(ROOM)
    for event in said:
        recording.add((event,))
    answer = recording.whole()
    assert answer is None or not storable(answer)
    assert answer is None or encode("k", answer, ROOM) is None


@pytest.mark.parametrize(
    "content",
    [
        3,
        ("i", "m", ("end", None), ("", ()), []),
        ("i", "m", ("end", None, None), ("", ()), [("song", "la")]),
        ("i", "m", ("sung", None, None), ("", ()), []),
    ],
)
def test_what_another_version_has_kept_is_not_there(content: object) -> None:
    data = sealed("k", content, ROOM)
    assert data is not None
    assert decode("k", data) is None


@given(whole_answers(), st.data())
def test_whatever_bytes_there_are_only_the_right_ones_are_an_answer(
    said: tuple[ModelEvent, ...], data: st.DataObject
) -> None:
    kept = encode("k", Completion.of(said), ROOM) or b""
    at = data.draw(st.integers(0, len(kept) - 1))
    flipped = kept[:at] + bytes([kept[at] ^ data.draw(st.integers(1, 255))]) + kept[at + 1 :]
    assert decode("k", flipped) is None
    assert decode("k", kept[:at]) is None
    assert decode("other", kept) is None
    assert decode("k", data.draw(st.binary())) is None
    assert decode_vector("k", kept) is None


@given(REQUESTS, REQUESTS, st.tuples(WORDS, WORDS), st.tuples(WORDS, WORDS))
def test_two_have_one_key_only_if_nothing_differs(
    one: ChatRequest, other: ChatRequest, mine: tuple[str, str], yours: tuple[str, str]
) -> None:
    same = (one, mine) == (other, yours)
    assert (key_of(*mine, one) == key_of(*yours, other)) == same


@given(REQUESTS, st.data())
def test_every_field_counts(request: ChatRequest, data: st.DataObject) -> None:
    """A request that differs in one field has another key."""
    other = data.draw(REQUESTS)
    for field in attrs.fields(ChatRequest):
        changed = attrs.evolve(request, **{field.name: getattr(other, field.name)})
        assert (key_of("", "", changed) == key_of("", "", request)) == (changed == request)


def test_the_order_in_a_schema_counts() -> None:
    def tool(*names: str) -> ChatRequest:
        schema = {"properties": {name: {"type": "string"} for name in names}}
        return attrs.evolve(HELLO, tools=(Tool("f", "", schema),))

    assert key_of("", "", tool("a", "b")) != key_of("", "", tool("b", "a"))


@pytest.mark.parametrize(
    "extras", [{"x": {"y": object()}}, {"x": {"y": "\ud800"}}, {"x": {"y": 1 << 70}}]
)
def test_what_cannot_be_written_has_no_key(extras: dict[str, dict[str, object]]) -> None:
    assert key_of("", "", attrs.evolve(HELLO, extras=extras)) is None
    assert keys_of_texts("", "", EmbedRequest(("a",), extras=extras)) is None


@pytest.mark.parametrize("word", ["once", "use", "refresh", "off"])
def test_a_cache_mode_is_read_and_does_not_count(word: str) -> None:
    said = attrs.evolve(HELLO, extras={"orchestra": {"cache": word, "coalesce": "off"}, "x": {}})
    plain = attrs.evolve(HELLO, extras={"orchestra": {"coalesce": "off"}, "x": {}})
    modes = [cache_mode_in(each.extras) for each in (said, plain, HELLO)]
    assert modes == [word, "once", "once"]
    assert without(said, CACHE) == plain
    assert without(plain, CACHE) is plain
    alone = attrs.evolve(HELLO, extras={"orchestra": {"cache": word}})
    assert without(alone, CACHE) == HELLO


def test_a_cache_mode_that_is_none_is_an_error() -> None:
    said = attrs.evolve(HELLO, extras={"orchestra": {"cache": "no"}})
    with pytest.raises(InvalidRequestError, match="'no': write 'off'"):
        cache_mode_in(said.extras)


@pytest.mark.parametrize(
    ("said", "told"),
    [({"cache": "of"}, "'of': write 'off'"), ({"coalesce": "no"}, "'no': write False for a call")],
)
def test_a_word_with_no_meaning_is_refused_where_no_policy_reads_it(
    said: dict[str, str], told: str
) -> None:
    """It would change nothing, and nobody would know; `generate` asks this before any policy."""
    with pytest.raises(InvalidRequestError, match=told):
        check_words({"orchestra": said})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("antropic", "extras has no 'antropic', which no provider would read: did you mean 'anthr"),
        ("OpenAI", "did you mean 'openai'?"),
        ("grok", "'groq'? A model class of your own needs a key that is less like that of a prov"),
        ("vertex", "write 'gemini' for 'vertex'"),
        ("orchestr", "did you mean 'orchestra'?"),
    ],
)
def test_extras_for_a_misspelt_provider_are_refused(name: str, told: str) -> None:
    """Nobody would read them, and nobody would know; `generate` asks this before any model."""
    with pytest.raises(InvalidRequestError, match=re.escape(told)):
        check_words({"openai": {}, name: {"service_tier": "flex"}})
    check_words({"b": {}, "vendor": {}})  # which a model class of one's own may read


def test_what_is_too_large_is_let_go() -> None:
    recording = Recording(100)
    for _ in range(3):
        recording.add((TextDelta("x" * 30),))
    recording.add((Stopped(StopReason.END),))
    assert recording.whole() is None
    answer = Completion((TextPart("x" * 100),), Stopped(StopReason.END))
    assert encode("k", answer, 100) is None
    assert encode("k", Completion((TextPart("\ud800"),), Stopped(StopReason.END)), 100) is None


@pytest.mark.parametrize(
    "event",
    [
        ToolCallDelta(0, "", "x" * 200, "{}"),
        ToolCallDelta(0, "x" * 200, "find", "{}"),
        ReasoningDelta("", "x" * 200),
    ],
)
def test_whatever_is_kept_of_an_answer_counts(event: ModelEvent) -> None:
    """Also the name of a tool, and the seal of a thought."""
    recording = Recording(100)
    recording.add((event, Stopped(StopReason.END)))
    assert recording.whole() is None


def test_log_probabilities_are_not_recorded() -> None:
    """An answer with them is never cached, and they are far larger than they count."""
    recording = Recording(ROOM)
    recording.add((Logprobs((TokenLogprob("No", -0.5),)), Stopped(StopReason.END)))
    assert recording.whole() is None


def test_an_answer_is_whole_once() -> None:
    recording = Recording(1000)
    recording.add((TextDelta("a"), Stopped(StopReason.END)))
    assert recording.whole() is not None
    assert recording.whole() is None


def test_a_vector_comes_back_bit_for_bit() -> None:
    vector = Vector.of([0.1, -2.0])
    data = encode_vector("k", vector, "small")
    assert data is not None
    assert decode_vector("k", data) == (vector, "small")
    assert decode_vector("k", data[:-1]) is None
