"""Which model is asked: able, as often as it should be, and the same for a conversation."""

from __future__ import annotations

from collections import Counter
from math import sqrt
from random import Random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import InvalidRequestError
from orchestra.policies.requests.needs import Needs, lacks, needs_of
from orchestra.policies.routing import (
    ANSWER_TOKENS,
    By,
    ByCost,
    ByLatency,
    ByOrder,
    ByWeight,
    Candidate,
    Route,
    choose,
    comparable,
    conversation_of,
    refusal,
    sticky_draws,
)
from orchestra.values import (
    Capabilities,
    ChatRequest,
    FilePart,
    ImagePart,
    ImageUrlPart,
    Message,
    Part,
    TextPart,
)

ABLE = st.none() | st.booleans()
PRICES = st.none() | st.floats(0, 100)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        name=st.text("abcdef", min_size=1, max_size=3),
        capabilities=st.builds(
            Capabilities, vision=ABLE, tools=ABLE, context_tokens=st.none() | st.integers(1, 100)
        ),
        weight=st.floats(0.1, 100),
        input_price=PRICES,
        output_price=PRICES,
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda each: each.name,
)
NEEDS = st.builds(
    Needs,
    vision=st.booleans(),
    tools=st.booleans(),
    context_tokens=st.integers(0, 100),
    input_tokens=st.integers(0, 100),
    output_tokens=st.none() | st.integers(0, 100),
)
RULES = st.sampled_from([ByOrder(), ByCost(), ByWeight(), ByLatency()])
DRAW = st.floats(0, 1, exclude_max=True)
NOTHING = Needs()
SIGMAS = 6  # once in 500 million
FEW = 10  # ... and small numbers stray more than the normal distribution says


def named(*names: str) -> list[Candidate]:
    return [Candidate(name=name) for name in names]


def draws_for(candidates: list[Candidate], data: st.DataObject) -> list[float]:
    size = len(candidates)
    return data.draw(st.lists(DRAW, min_size=size, max_size=size), label="draws")


def loads_for(candidates: list[Candidate], data: st.DataObject) -> dict[str, float]:
    return {each.name: data.draw(st.floats(0, 9), label=each.name) for each in candidates}


@given(RULES, CANDIDATES, NEEDS, st.data())
def test_whoever_is_able_is_asked_once_and_nobody_else(
    by: By, candidates: list[Candidate], needs: Needs, data: st.DataObject
) -> None:
    """Whatever the rule: the order is one of all that satisfy the needs."""
    loads = loads_for(candidates, data)
    order = choose(by, candidates, needs, loads, draws_for(candidates, data))
    able = {each.name for each in candidates if not lacks(needs, each.capabilities)}
    assert Counter(each.name for each in order) == Counter(able)


@given(CANDIDATES, NEEDS)
def test_a_refusal_tells_of_each_what_it_lacks(candidates: list[Candidate], needs: Needs) -> None:
    told = str(refusal(Route(name="r", candidates=tuple(candidates)), needs, candidates))
    for each in candidates:
        lacking = lacks(needs, each.capabilities)
        assert f"\n  {each.name}: it has {'; '.join(lacking)}" in told


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(0, 2**32))
def test_weights_are_kept(weights: list[int], seed: int) -> None:
    """Within six standard deviations, whatever the source of chance begins with."""
    chance, times = Random(seed), 500
    candidates = [Candidate(name=f"m{i}", weight=w) for i, w in enumerate(weights)]
    counts: Counter[str] = Counter()
    for _ in range(times):
        draws = [chance.random() for _ in candidates]
        counts[choose(ByWeight(), candidates, NOTHING, {}, draws)[0].name] += 1
    for each in candidates:
        share = each.weight / sum(weights)
        deviation = sqrt(times * share * (1 - share))
        assert abs(counts[each.name] - times * share) <= SIGMAS * deviation + FEW


@given(CANDIDATES, st.data())
def test_the_slower_of_two_is_never_asked_first(
    candidates: list[Candidate], data: st.DataObject
) -> None:
    """By its own measure; and the two are the same two that chance alone would have put first."""
    loads, draws = loads_for(candidates, data), draws_for(candidates, data)
    order = choose(ByLatency(), candidates, NOTHING, loads, draws)
    by_chance = choose(ByWeight(), candidates, NOTHING, loads, draws)
    assert {each.name for each in order[:2]} == {each.name for each in by_chance[:2]}
    assert order[2:] == by_chance[2:]
    if len(order) > 1:
        assert loads[order[0].name] <= loads[order[1].name]


@given(CANDIDATES, NEEDS, st.data())
def test_nobody_cheaper_comes_later(
    candidates: list[Candidate], needs: Needs, data: st.DataObject
) -> None:
    """And a model without a price comes behind those that have one."""
    order = choose(ByCost(), candidates, needs, {}, draws_for(candidates, data))
    prices = [each.price(needs) for each in order]
    assert prices == sorted(prices)


def test_what_a_request_costs_is_its_input_and_its_answer() -> None:
    long_in = Candidate(name="a", input_price=1, output_price=10)
    long_out = Candidate(name="b", input_price=2, output_price=1)
    assert long_in.price(Needs(input_tokens=3, output_tokens=5)) == 53
    assert long_in.price(Needs()) == ANSWER_TOKENS * 10
    asked = Needs(input_tokens=1000, output_tokens=1)
    assert choose(ByCost(), [long_in, long_out], asked, {}, [0, 0])[0] is long_in
    asked = Needs(input_tokens=1, output_tokens=1000)
    assert choose(ByCost(), [long_in, long_out], asked, {}, [0, 0])[0] is long_out
    unknown = Candidate(name="d", output_price=0)
    assert choose(ByCost(), [unknown, long_in], asked, {}, [0, 0]) == (long_in, unknown)
    vectors = Candidate(name="c", input_price=2)
    assert vectors.price(Needs(input_tokens=3, output_tokens=0)) == 6


CONVERSATIONS = [f"conversation {i}".encode() for i in range(500)]


@given(
    st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=6, unique=True),
    st.integers(1, 9),
    st.data(),
)
def test_a_model_that_is_added_takes_its_share_and_moves_nothing_else(
    names: list[str], weight: int, data: st.DataObject
) -> None:
    """Wherever it is put among the others, and whatever it weighs."""
    *old, name = names
    before = [Candidate(name=each, weight=data.draw(st.integers(1, 9))) for each in old]
    added = Candidate(name=name, weight=weight)
    at = data.draw(st.integers(0, len(before)))
    after = [*before[:at], added, *before[at:]]
    moved = 0
    for key in CONVERSATIONS:
        was, now = stays(key, before), stays(key, after)
        assert now in (was, added)
        moved += now == added
    share = weight / sum(each.weight for each in after)
    expected, deviation = len(CONVERSATIONS) * share, sqrt(len(CONVERSATIONS) * share * (1 - share))
    assert abs(moved - expected) <= SIGMAS * deviation + FEW


def stays(key: bytes, candidates: list[Candidate]) -> Candidate:
    draws = sticky_draws(key, [each.name for each in candidates])
    assert all(0 <= draw < 1 for draw in draws)
    return choose(ByWeight(sticky=True), candidates, NOTHING, {}, draws)[0]


@given(st.permutations("abcde"), st.sampled_from(CONVERSATIONS))
def test_the_order_in_the_file_moves_no_conversation(names: list[str], key: bytes) -> None:
    assert stays(key, named(*names)) == stays(key, named(*"abcde"))


@given(st.sampled_from(CONVERSATIONS))
def test_without_its_model_a_conversation_goes_to_the_next_that_it_would_fall_back_to(
    key: bytes,
) -> None:
    candidates = named(*"abcde")
    draws = sticky_draws(key, "abcde")
    first, second, *_ = choose(ByWeight(sticky=True), candidates, NOTHING, {}, draws)
    left = [each for each in candidates if each is not first]
    assert stays(key, left) is second


TEXTS = st.text(max_size=20)
PARTS = st.one_of(
    st.builds(TextPart, TEXTS),
    st.builds(ImagePart, st.binary(max_size=20)),
    st.builds(ImageUrlPart, TEXTS),
)
CONTENTS = TEXTS | st.lists(PARTS, max_size=3).map(tuple)
MESSAGES = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), CONTENTS))


@given(MESSAGES, CONTENTS, MESSAGES, st.sampled_from([0.0, 1.0]))
def test_a_conversation_is_the_same_in_each_of_its_turns(
    before: list[Message], asked: str | tuple[Part, ...], later: list[Message], temperature: float
) -> None:
    begun = [*(each for each in before if each.role != "user"), Message("user", asked)]
    first = ChatRequest(tuple(begun))
    turn = ChatRequest((*begun, *later), temperature=temperature)
    assert conversation_of(turn) == conversation_of(first)


@given(CONTENTS, CONTENTS)
def test_other_words_are_another_conversation(
    one: str | tuple[Part, ...], other: str | tuple[Part, ...]
) -> None:
    first, second = Message("user", one), Message("user", other)
    same = conversation_of(ChatRequest((first,))) == conversation_of(ChatRequest((second,)))
    assert same == (
        [attrs.astuple(p) for p in first.parts] == [attrs.astuple(p) for p in second.parts]
        and [type(p) for p in first.parts] == [type(p) for p in second.parts]
    )


def test_a_key_counts_for_more_than_the_words() -> None:
    keyed = {"orchestra": {"conversation": "42"}}
    one = ChatRequest((Message("user", "a"),), extras=keyed)
    other = ChatRequest((Message("user", "b"),), extras=keyed)
    assert conversation_of(one) == conversation_of(other)
    assert conversation_of(one) != conversation_of(attrs.evolve(one, extras={}))
    assert conversation_of(ChatRequest(())) == conversation_of(ChatRequest(()))


@pytest.mark.parametrize(
    "said", [{}, {"conversation": 42}, {"sesion": "a"}, {"conversation": "a", "more": 1}]
)
def test_what_is_no_key_is_refused(said: dict[str, object]) -> None:
    request = ChatRequest((Message("user", "a"),), extras={"orchestra": said})
    with pytest.raises(InvalidRequestError, match=r"a route reads one text there; write {'conv"):
        conversation_of(request)


def test_words_for_other_policies_are_left_alone() -> None:
    begun = (Message("user", "a"),)
    beside = {"cache": "off", "coalesce": "off"}
    plain, said = ChatRequest(begun), ChatRequest(begun, extras={"orchestra": beside})
    keyed = ChatRequest(begun, extras={"orchestra": {"conversation": "42"}})
    both = ChatRequest(begun, extras={"orchestra": {"conversation": "42", **beside}})
    assert conversation_of(plain) == conversation_of(said)
    assert conversation_of(keyed) == conversation_of(both)


def test_only_vectors_of_one_kind_are_mixed() -> None:
    chat = Candidate(name="chat", capabilities=Capabilities(embeddings=False))
    here = Candidate(name="here", vectors="small")
    there = Candidate(name="there", vectors="small", capabilities=Capabilities(embeddings=True))
    other = Candidate(name="other", vectors="large")
    assert comparable([chat, here, other, there]) == (here, there)
    assert comparable([chat]) == ()


def test_the_built_up_request_chooses_the_model_that_sees() -> None:
    blind = Candidate(name="blind", capabilities=Capabilities(vision=False))
    seeing = Candidate(name="seeing", capabilities=Capabilities(vision=True))
    needs = needs_of(ChatRequest((Message("user", (ImagePart(b""),)),)))
    assert choose(ByOrder(), [blind, seeing], needs, {}, [0, 0]) == (seeing,)
    assert choose(ByOrder(), [blind, seeing], NOTHING, {}, [0, 0]) == (blind, seeing)


def test_a_pdf_goes_to_the_model_that_reads_it_and_text_to_any() -> None:
    other = Candidate(name="other", capabilities=Capabilities(files=False))
    reader = Candidate(name="reader", capabilities=Capabilities(files=True))
    for media_type, able in (("application/pdf", (reader,)), ("text/plain", (other, reader))):
        file = FilePart(b"x", media_type)
        needs = needs_of(ChatRequest((Message("user", (file,)),)))
        assert choose(ByOrder(), [other, reader], needs, {}, [0, 0]) == able


def test_conversations_that_begin_with_other_files_are_others() -> None:
    one, other, image = FilePart(b"1"), FilePart(b"2"), ImagePart(b"1")
    keys = {
        conversation_of(ChatRequest((Message("user", (each,)),))) for each in (one, other, image)
    }
    assert len(keys) == 3
