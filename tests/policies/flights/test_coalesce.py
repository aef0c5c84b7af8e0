"""Coalescing, decided: which calls are the same, and who pays what."""

from __future__ import annotations

from typing import Any
from unicodedata import decomposition, normalize

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Certainty, Usage
from orchestra.errors import InvalidRequestError
from orchestra.policies.caching.alike import QUESTION_CHARS_MAX
from orchestra.policies.flights.coalesce import (
    Bill,
    CoalesceRule,
    Question,
    nearest,
    normal,
    question_of,
    share,
)
from orchestra.policies.requests.extras import Sharing, sharing_in
from orchestra.policies.routing import conversation_of
from orchestra.values import (
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ForcedTool,
    ImagePart,
    JsonOutput,
    Message,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    UsageReport,
    Vector,
)

ASKED = ChatRequest((Message("system", "Be brief."), Message("user", "Why is the sky blue?")))
ALONE = {"orchestra": {"coalesce": False}}
PLAIN = CoalesceRule()
NORMAL = CoalesceRule(normalize=True)
ALIKE = CoalesceRule(similarity=0.9)

counts = st.integers(0, 1000)
usages = st.builds(
    Usage, counts, counts, st.sampled_from(Certainty), counts, cost_nanodollars=counts
)


def key(
    request: ChatRequest | EmbedRequest,
    rule: CoalesceRule = PLAIN,
    *,
    tenant: str = "t",
    model: str = "m",
) -> Any:
    found = question_of(tenant, model, request, rule)
    return None if found is None else found.key


def question(request: ChatRequest, rule: CoalesceRule, tenant: str = "t") -> Question:
    found = question_of(tenant, "m", request, rule)
    assert found is not None
    return found


def said(text: str, *more: Any) -> tuple[Message, ...]:
    return (Message("system", "Be brief."), Message("user", (TextPart(text), *more)))


OTHERWISE: dict[str, Any] = {
    "messages": said("Why is the sky red?"),
    "temperature": 0.0,
    "output_tokens_max": 5,
    "stop": ("x",),
    "seed": 1,
    "top_p": 0.5,
    "top_k": 4,
    "reasoning_tokens_max": 9,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "reasoning_effort": "low",
    "effort_if_able": True,
    "tools": (Tool("f", "", {"type": "object"}),),
    "tool_choice": ForcedTool("f"),
    "parallel_tool_calls": False,
    "output": JsonOutput(),
    "logprobs": 2,
    "extras": {"openai": {"service_tier": "flex"}},
}


def test_whatever_is_asked_otherwise_is_another_call() -> None:
    assert OTHERWISE.keys() == {field.name for field in attrs.fields(ChatRequest)}
    requests = [ASKED, *(attrs.evolve(ASKED, **{name: to}) for name, to in OTHERWISE.items())]
    requests += [
        attrs.evolve(ASKED, messages=said("Why is the sky blue?", ImagePart(data)))
        for data in (b"a", b"b")
    ]
    requests.append(attrs.evolve(ASKED, messages=said("Why is the sky ", ToolCall("blue?", ""))))
    requests.append(attrs.evolve(ASKED, extras={"openai": {"service_tier": "auto"}}))
    keys = [key(each) for each in requests]
    keys += [key(ASKED, tenant="other"), key(ASKED, model="other")]
    keys += [key(EmbedRequest(texts)) for texts in (("a", "b"), ("ab",), ("b", "a"))]
    keys += [key(EmbedRequest(("a",), "query")), key(EmbedRequest(("a",), None, 3))]
    assert None not in keys
    assert len(set(keys)) == len(keys)


@given(st.permutations(["b", "a", "c"]))
def test_the_same_said_in_another_order_of_keys_is_the_same_call(names: list[str]) -> None:
    one = attrs.evolve(ASKED, extras={"openai": {name: [name] for name in "abc"}})
    other = attrs.evolve(ASKED, extras={"openai": {name: [name] for name in names}})
    assert key(one) == key(other)
    assert key(ASKED) == key(attrs.evolve(ASKED, messages=said("Why is the sky blue?")))


def test_what_cannot_be_told_from_others_is_never_shared() -> None:
    assert key(attrs.evolve(ASKED, extras={"openai": {"x": object()}})) is None


def test_a_call_says_how_it_is_shared_and_asks_the_same() -> None:
    assert sharing_in(ASKED.extras) is Sharing.OTHERS
    for value, sharing in ((False, Sharing.ALONE), (True, Sharing.ANY)):
        request = attrs.evolve(ASKED, extras={"orchestra": {"coalesce": value}})
        assert sharing_in(request.extras) is sharing
        assert key(request) == key(ASKED)
        assert conversation_of(request) == conversation_of(ASKED)
        both = {"orchestra": {"coalesce": value, "conversation": "42"}}
        assert key(attrs.evolve(ASKED, extras=both)) != key(ASKED)
        assert conversation_of(attrs.evolve(ASKED, extras=both)) == b"key 42"
    with pytest.raises(InvalidRequestError, match="'no': write False"):
        sharing_in({"orchestra": {"coalesce": "no"}})


@pytest.mark.parametrize(
    "text", ["why is the sky blue?", " WHY is\n the\tsky  blue? ", "Why is the sky \uff42lue?"]
)
def test_with_normalize_what_looks_alike_is_the_same(text: str) -> None:
    asked = attrs.evolve(ASKED, messages=said(text))
    assert key(asked, NORMAL) == key(ASKED, NORMAL)
    assert key(asked) != key(ASKED)
    system = (Message("system", "be brief."), *ASKED.messages[1:])
    assert key(attrs.evolve(ASKED, messages=system), NORMAL) != key(ASKED, NORMAL)


@pytest.mark.parametrize(
    ("one", "other"),
    [("What is 10²?", "What is 102?"), ("2ᵏ", "2k"), ("2½ cups", "21\u20442 cups")],
)
def test_with_normalize_other_numbers_are_another_question(one: str, other: str) -> None:
    """They are equal in NFKC."""
    assert normal(one) != normal(other)


def test_with_normalize_no_superscript_subscript_or_fraction_is_what_it_is_made_of() -> None:
    small = {"<super>", "<sub>", "<fraction>"}
    signs = [each for each in map(chr, range(0x2E00)) if small & {*decomposition(each).split()}]
    plain = [(each, normalize("NFKC", each)) for each in signs]
    latin = [(each, made_of) for each, made_of in plain if made_of[0].isascii()]
    assert len(latin) > 100
    assert [each for each, made_of in latin if normal(f"2{each}") == normal(f"2{made_of}")] == []


@given(st.lists(st.text(max_size=99), min_size=5, max_size=40))
def test_a_long_text_is_normal_like_a_short_one(words: list[str]) -> None:
    """It is normalised in pieces."""
    assert normal(" ".join(words)).split() == [
        each for word in words for each in normal(word).split()
    ]


def test_a_long_run_of_accents_is_normal_in_linear_time() -> None:
    """In quadratic time, this megabyte, which a client may send, would take two minutes."""
    text = "a" + "\u0301\u0316" * 250_000
    assert len(normal(text)) == len(text) - 1


@given(st.text())
def test_a_normal_text_is_normal(text: str) -> None:
    assert normal(f" {text}  ").split() == normal(text).split()


def test_only_the_last_short_text_of_a_user_is_compared() -> None:
    near = question(ASKED, ALIKE).near
    assert near is not None
    assert question(ASKED, PLAIN).near is None
    other = attrs.evolve(ASKED, messages=said("What colour has the sky?"))
    assert question(other, ALIKE).near == near
    assert question(other, ALIKE, "u").near != near
    assert question(attrs.evolve(other, seed=1), ALIKE).near != near
    long = "x" * (QUESTION_CHARS_MAX + 1)  # comparing takes quadratic time, in the event loop
    for messages in ((), said("x", ImagePart(b"")), (Message("tool", "x"),), said(long)):
        asked = attrs.evolve(ASKED, messages=messages)
        assert question(asked, ALIKE).near is None


def test_the_most_alike_is_found_if_it_is_alike_enough() -> None:
    mine, *theirs = (Vector.of(each) for each in ((1, 0), (0, 1), (0.6, 0.8), (0.8, 0.6)))
    found = nearest(mine, theirs, 0.7)
    assert found is not None
    assert found[0] == 2
    assert found[1] == pytest.approx(0.8)
    assert nearest(mine, theirs, 0.9) is None
    assert nearest(mine, [], 0.1) is None
    assert nearest(mine, [mine, mine], 1.0) == (0, 1.0)


texts = st.sampled_from(["What is 2 + 2?", "And now?", "Tell me a joke."])
talks = st.lists(st.builds(Message, st.just("user"), texts), min_size=1, max_size=3).map(tuple)


@given(talks, talks)
def test_what_is_before_a_last_message_is_no_conversation_of_its_own(
    one: tuple[Message, ...], other: tuple[Message, ...]
) -> None:
    """Or who asks only what came before the last message would be answered as if he had."""
    asked = [question(ChatRequest(each), ALIKE) for each in (one, other)]
    assert asked[0].near != asked[1].key
    assert (asked[0].key == asked[1].key) == (one == other)
    assert (asked[0].near == asked[1].near) == (one[:-1] == other[:-1])


@given(usages, st.integers(1, 9))
def test_shares_are_the_whole_exactly_and_fair(usage: Usage, among: int) -> None:
    shares = [share(usage, among, at) for at in range(among)]
    assert sum(shares[1:], shares[0]) == usage
    costs = [each.cost_nanodollars for each in shares]
    assert max(costs) - min(costs) <= 1
    assert costs == sorted(costs, reverse=True)


@given(
    st.lists(st.tuples(st.booleans(), usages, st.none() | st.integers(2, 5)), min_size=1),
    st.integers(1, 4),
)
def test_what_was_paid_is_what_was_consumed(
    moments: list[tuple[bool, Usage, int | None]], stayed: int
) -> None:
    """Reports only grow, as a provider's do; leavers pay in between."""
    bill, paid, whole, reported = Bill(), Usage(), Usage(), Usage()
    for is_report, usage, among in moments:
        if is_report:
            reported += usage
            heard = bill.of_event(UsageReport(reported))
            assert isinstance(heard, UsageReport)
            assert heard.usage.settled
            assert bill.of_event(heard) is heard
        else:
            bill.add(usage)
            bill.add(attrs.evolve(usage, settled=True))
            whole += usage
        if among is not None:
            share_ = bill.pay(among, 1)
            assert share_ is not None
            assert share_.certainty is not Certainty.EXACT
            paid += share_
    paid = sum(bill.settle(stayed), paid)
    assert attrs.evolve(paid, certainty=Certainty.EXACT) == attrs.evolve(
        whole + reported, certainty=Certainty.EXACT
    )
    assert sum(bill.settle(stayed), Usage()).cost_nanodollars == 0


def test_of_what_nobody_has_counted_nothing_is_paid() -> None:
    bill = Bill()
    assert bill.of_event(TextDelta("x")) == TextDelta("x")
    assert bill.of_result(Embeddings(())) == Embeddings(())
    assert bill.pay(2, 0) is None
    assert bill.settle(2) == []
    found = bill.of_result(Embeddings((), Usage(5)))
    assert found.usage is not None
    assert found.usage.settled
    assert bill.settle(2) == [Usage(3), Usage(2)]
