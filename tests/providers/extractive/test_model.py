"""The model that quotes: it says what the sources say, and how it stops is true."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.accounts import Certainty
from orchestra.errors import BindingError, ModelError
from orchestra.protocols import Model
from orchestra.providers import wordllama
from orchestra.providers.extractive.choosing import (
    CANDIDATES_MAX,
    NO_ANSWER,
    NO_SOURCES,
    NOTE,
    Candidate,
    candidates,
    choose,
    say,
)
from orchestra.providers.extractive.model import ExtractiveModel, ended
from orchestra.providers.extractive.parsed_prompt import ParsedPrompt, Source
from orchestra.providers.wordllama import WordLlamaEmbedder
from orchestra.steps.texts.text import split
from orchestra.values import (
    ChatRequest,
    Message,
    ModelEvent,
    Stopped,
    StopReason,
    TextDelta,
    UsageReport,
    Vector,
)

MODEL: Model = ExtractiveModel(WordLlamaEmbedder())
HANDBOOK = (Path(__file__).parent / "handbook.md").read_text()
SOURCES = "\n".join(
    f"[{i}] {passage.source} — {passage.metadata['heading']}: {passage.text}"
    for i, passage in enumerate(split(HANDBOOK, source="docs/handbook.md"), 1)
)


async def received(request: ChatRequest) -> list[tuple[ModelEvent, ...]]:
    batches = []
    async with MODEL.stream(request) as reply:
        while batch := await reply.receive():
            batches.append(batch)
        assert await reply.receive() == ()
    return batches


def heard(request: ChatRequest) -> tuple[str, list[ModelEvent]]:
    """The text, and what came after it."""
    events = [event for batch in trio.run(received, request) for event in batch]
    text = [event.text for event in events if isinstance(event, TextDelta)]
    return "".join(text), events[len(text) :]


def request(content: str, **options: object) -> ChatRequest:
    return ChatRequest((Message("user", content),), **options)  # type: ignore[arg-type]


def ask(question: str, sources: str = SOURCES) -> str:
    text, _ = heard(request(f"Question: {question}\n\n{sources}"))
    return text


@pytest.mark.parametrize(
    ("question", "says", "cites"),
    [
        ("What happens when the client leaves?", "every upstream socket is closed", "Leaving"),
        ("What is a run?", "a run is one execution", "Words"),
        ("How are budgets held?", "Budgets are held for the lifetime of the task.", "Money"),
        ("When is money settled?", "reserved on entry and settled on exit", "Money"),
        ("What does importing cost?", "Importing everything costs 304 ms", "Speed"),
        ("Is a cut stream an error?", "A cut stream never looks complete.", "Leaving"),
        ("Which people build AI APIs?", "people who build real-time AI APIs", "Orchestra"),
    ],
)
def test_questions_about_a_handbook_are_answered_with_sources(
    question: str, says: str, cites: str
) -> None:
    answer = ask(question)
    body, note, listed = answer.split("\n\n")
    assert says in body
    assert note == NOTE
    cited = re.findall(r"\[(\d)\] docs/handbook.md — (.*)", listed)
    assert any(heading.endswith(cites) for _, heading in cited)
    assert {number for number, _ in cited} == set(re.findall(r"\[(\d)\]", body))
    assert "nobody should quote" not in answer
    assert "#" not in body


@pytest.mark.parametrize(
    "question", ["How do I bake bread?", "What is the capital of France?", "Who won in 1998?"]
)
def test_what_the_sources_do_not_say_is_not_answered(question: str) -> None:
    assert ask(question) == f"{NO_ANSWER}\n\n{NOTE}"


def test_without_sources_it_says_how_to_give_them() -> None:
    assert heard(request("What is a run?"))[0] == NO_SOURCES
    assert heard(ChatRequest(()))[0] == NO_SOURCES


@pytest.mark.parametrize("content", ["What is a run?", f"Question: What is a run?\n\n{SOURCES}"])
def test_without_its_embedder_it_fails_whatever_the_prompt_is(
    monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    async def main() -> None:
        async with ExtractiveModel(WordLlamaEmbedder()).stream(request(content)):
            pass

    monkeypatch.setattr(wordllama, "find_spec", lambda _: None)
    with pytest.raises(BindingError, match="the built-in model and embedder need the package"):
        trio.run(main)


def test_without_marks_it_quotes_paragraphs_and_cites_nothing() -> None:
    answer, _ = heard(request(f"{HANDBOOK}\n\nHow are budgets held?"))
    assert answer.endswith(f"\n\n{NOTE}")
    assert "for the lifetime of the task" in answer
    assert "[" not in answer


def test_where_nothing_is_asked_it_says_what_the_sources_are_about() -> None:
    answer, _ = heard(request("[1] A run is one execution of a pipeline by the engine."))
    assert answer == f"A run is one execution of a pipeline by the engine. [1]\n\n{NOTE}"


def test_sources_that_are_all_code_have_no_answer() -> None:
    assert ask("What?", "[1] ```\nx = 1\n```").startswith(NO_ANSWER)


def test_the_answer_arrives_word_by_word_in_small_batches() -> None:
    batches = trio.run(received, request(f"What is a run?\n\n{SOURCES}"))
    assert len(batches) > 3
    assert all(len(batch) <= 8 for batch in batches)
    words = [event.text for batch in batches for event in batch if isinstance(event, TextDelta)]
    assert all(len(word.split()) == 1 for word in words)


def test_leaving_early_ends_the_answer() -> None:
    async def main() -> tuple[ModelEvent, ...]:
        async with MODEL.stream(request(f"What is a run?\n\n{SOURCES}")) as reply:
            await reply.receive()
        return await reply.receive()

    assert trio.run(main) == ()


FULL, _ = heard(request(f"What is a run?\n\n{SOURCES}"))


@given(
    tokens_max=st.none() | st.integers(0, len(FULL)),
    stop=st.lists(st.sampled_from(["", "run", " is", "\n\n", "never said", "—"]), max_size=3),
)
@settings(deadline=None)
def test_it_stops_where_it_is_told_and_says_why(tokens_max: int | None, stop: list[str]) -> None:
    text, after = heard(
        request(f"What is a run?\n\n{SOURCES}", output_tokens_max=tokens_max, stop=tuple(stop))
    )
    usage, stopped = after
    assert isinstance(usage, UsageReport)
    assert isinstance(stopped, Stopped)
    assert FULL.startswith(text)
    ends = [at for mark in stop if mark and (at := FULL.find(mark)) >= 0]
    allowed = FULL[: min(ends, default=len(FULL))]
    assert allowed.startswith(text)
    if tokens_max is None or len(allowed.encode()) <= 4 * tokens_max:
        assert text == allowed
        assert stopped.reason is (StopReason.STOP_SEQUENCE if ends else StopReason.END)
    else:
        assert len(text.encode()) > 4 * tokens_max - 4
        assert stopped.reason is StopReason.LENGTH
    assert usage.usage.output_tokens == -(-len(text.encode()) // 4)
    assert tokens_max is None or usage.usage.output_tokens <= tokens_max
    assert usage.usage.input_tokens == -(-len(f"What is a run?\n\n{SOURCES}".encode()) // 4)
    assert usage.usage.certainty is Certainty.ESTIMATED


def test_a_prompt_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(ModelError, match=r"400001 characters.* at most 400000") as caught:
        heard(request("x" * 400_001))
    assert not caught.value.retryable


def test_it_says_of_its_answers_that_they_are_extractive() -> None:
    assert "extractive" in NOTE


# --- choosing, with vectors that are drawn ------------------------------------------------------

numbers = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3).filter(any).map(Vector.of)
statements = st.sampled_from(["A run is one.", "The run ends.", "A plan is two.", "x" * 400])


@given(st.data(), st.integers(1, 3), st.sampled_from(["What is a run?", "", "Why?"]))
def test_few_are_chosen_each_once_and_by_source(
    data: st.DataObject, count: int, question: str
) -> None:
    places = st.integers(0, count - 1)
    found = data.draw(st.lists(st.builds(Candidate, places, statements), max_size=12))
    chosen = choose(
        question,
        found,
        asked=data.draw(numbers),
        sentences=[data.draw(numbers) for _ in found],
        sources=[data.draw(numbers) for _ in range(count)],
    )
    assert len(chosen) <= 4
    assert all(one in found for one in chosen)
    runs = [
        one.source for i, one in enumerate(chosen) if not i or chosen[i - 1].source != one.source
    ]
    assert len(runs) == len(set(runs))


EAST, NORTH = Vector.of([1.0, 0.0]), Vector.of([0.0, 1.0])


def picked(question: str, texts: Sequence[str], vectors: Sequence[Vector]) -> list[str]:
    found = [Candidate(0, text) for text in texts]
    chosen = choose(question, found, asked=EAST, sentences=vectors, sources=[EAST])
    return [one.text for one in chosen]


def test_what_says_the_same_is_said_once() -> None:
    assert picked("", ["One.", "One again."], [EAST, EAST]) == ["One."]


def test_of_equally_near_ones_the_question_s_words_decide() -> None:
    texts = ["It is fast and small.", "Budgets are held by the task."]
    assert picked("How are budgets held?", texts, [EAST, EAST]) == [texts[1]]


def test_a_definition_is_preferred_where_one_is_asked_for() -> None:
    texts = ["The run was long and hard.", "A `run` is one execution of it."]
    assert picked("What is a run?", texts, [EAST, EAST]) == [texts[1]]


def test_what_stands_beside_a_good_one_is_better_for_it() -> None:
    texts = ["A very good one.", "It goes on.", "One from elsewhere."]
    aside = Vector.of([0.4, 0.917])
    found = [Candidate(0, texts[0]), Candidate(0, texts[1]), Candidate(1, texts[2])]
    sentences = [EAST, aside, Vector.of([0.4, -0.917])]
    chosen = choose("", found, asked=EAST, sentences=sentences, sources=[EAST, EAST])
    assert [one.text for one in chosen] == texts[:2]


def test_a_near_source_makes_its_sentences_better() -> None:
    found = [Candidate(0, "One."), Candidate(1, "Another one.")]
    chosen = choose("", found, asked=EAST, sentences=[EAST, EAST], sources=[NORTH, EAST])
    assert [one.source for one in chosen] == [1]


def test_those_of_one_source_are_in_its_order() -> None:
    vectors = [Vector.of([0.8, 0.6]), EAST]
    assert picked("", ["First.", "Best."], vectors) == ["First.", "Best."]


def test_an_answer_is_not_cut_inside_a_character() -> None:
    assert ended("a" + "é" * 9, (), 1) == ("aé", StopReason.LENGTH)


def test_what_is_far_is_not_quoted() -> None:
    assert picked("", ["One."], [NORTH]) == []
    assert picked("", [], []) == []


def test_long_ones_fill_the_answer_sooner() -> None:
    turned = [Vector.of([math.cos(i), math.sin(i)]) for i in (0, 0.5, -0.5, 0.9, -0.9)]
    assert len(picked("", ["x" * 400] * 5, turned)) == 2
    assert len(picked("", list("abcde"), turned)) == 4
    assert len(picked("", ["x" * 2000], [EAST])) == 1


def test_marks_stand_behind_the_last_of_a_source_and_an_end_is_made() -> None:
    sources = [Source(3, "a.md", ""), Source(5, "", "")]
    chosen = [Candidate(0, "One."), Candidate(0, "two"), Candidate(1, 'He said "three."')]
    assert say(chosen, sources) == (
        f'One. two. [3] He said "three." [5]\n\n{NOTE}\n\nSources:\n[3] a.md'
    )


def test_only_so_many_sentences_are_compared() -> None:
    text = " ".join(f"This is the sentence with the number {i}." for i in range(1000))
    asked = ParsedPrompt("", (Source(1, "", text), Source(2, "", text)))
    found = candidates(asked)
    assert len(found) == CANDIDATES_MAX
    assert len({one.text for one in found}) == CANDIDATES_MAX


def test_what_stands_first_under_a_heading_that_says_the_question_is_quoted() -> None:
    """A heading is how a writer says which question is answered below it."""
    heading = "What happens when the client leaves"
    found = [
        Candidate(0, "The client leaves, and it happens."),
        Candidate(1, "The run is cancelled.", heading),
    ]
    chosen = choose(
        f"{heading}?", found, asked=EAST, sentences=[NORTH, NORTH], sources=[EAST, EAST]
    )
    assert found[1] in chosen


def test_a_heading_that_shares_one_word_with_the_question_says_little() -> None:
    found = [Candidate(0, "One.", "Run"), Candidate(1, "A run is this.", "")]
    chosen = choose(
        "What is a run?", found, asked=EAST, sentences=[NORTH, EAST], sources=[EAST, EAST]
    )
    assert chosen == [found[1]]


def test_a_quoted_item_of_a_list_ends_like_a_sentence() -> None:
    assert say([Candidate(0, "none goes on;")], [Source(1, "", "")]).startswith("none goes on.")


def test_blanks_in_what_is_asked_make_no_difference() -> None:
    """However many: they are passed over once."""
    found = [Candidate(0, "A bee hive is a home."), Candidate(0, "Bees fly to their home.")]
    for question in ("what is a bee hive?", "What \n is  a bee\t hive ?"):
        chosen = choose(question, found, asked=EAST, sentences=[EAST, EAST], sources=[EAST])
        assert chosen[0] is found[0]
    question = "what is" + " " * 100_000 + "x"
    assert choose(question, found, asked=EAST, sentences=[EAST, EAST], sources=[EAST])
