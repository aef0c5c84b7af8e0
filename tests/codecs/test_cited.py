"""What the answers of OpenAI, OpenRouter, Perplexity, Cohere and Gemini cite."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.citations import Citation, Cited
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.cited import CITATIONS_MAX
from orchestra.codecs.cohere.dialect import CohereDialect
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.framing.frames import FRAME_BYTES_MAX
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.codecs.gemini.grounding import grounded
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import OPENAI, PRESETS
from orchestra.values import Json, ModelEvent, ReasoningDelta, Stopped, TextDelta
from tests.recordings import Recording, needed, recordings

OPENAI_DIALECT = OpenAiDialect(OPENAI)
WORDS = ["The ", "sky is ", "blué", "."]
TEXT = "".join(WORDS)
PLACE = 4, 15
SAID = TEXT[slice(*PLACE)]


def frames(*events: Json) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events)


def heard(dialect: Dialect, *pieces: bytes) -> list[ModelEvent]:
    decoder = dialect.decoder()
    found = [event for piece in pieces for event in decoder.feed(piece)]
    return [*found, *decoder.close()]


# --- each as its provider tells it --------------------------------------------------------------


def openai(cited: Json) -> tuple[bytes, bytes]:
    page = {"url": cited["source"], "title": cited["title"]}
    page |= {"start_index": cited["start"], "end_index": cited["end"]}
    annotations = [{"type": "url_citation", "url_citation": page}, {"type": "file"}, None]
    deltas: list[Json] = [{"content": word} for word in WORDS]
    deltas.append({"annotations": annotations})
    chunks = [{"id": "a", "choices": [{"index": 0, "delta": each}]} for each in deltas]
    chunks.append({"id": "a", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    message = {"role": "assistant", "content": TEXT, "annotations": annotations}
    whole = {"id": "a", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return frames(*chunks), json.dumps(whole).encode()


def cohere(cited: Json) -> tuple[bytes, bytes]:
    document = {"title": cited["title"], "url": cited["source"]}
    source = {"type": "document", "id": "d1", "document": document}
    of = {"start": cited["start"], "end": cited["end"], "text": SAID, "sources": [source]}
    text, plan = {**of, "type": "TEXT_CONTENT"}, {**of, "type": "PLAN"}
    events: list[Json] = [{"type": "message-start", "id": "a"}]
    for word in WORDS:
        content = {"content": {"text": word}}
        events.append({"type": "content-delta", "index": 0, "delta": {"message": content}})
    for each in (plan, text):
        events.append(
            {"type": "citation-start", "index": 0, "delta": {"message": {"citations": each}}}
        )
        events.append({"type": "citation-end", "index": 0})
    events.append({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}})
    message = {"content": [{"type": "text", "text": TEXT}], "citations": [plan, text]}
    whole = {"id": "a", "message": message, "finish_reason": "COMPLETE"}
    return frames(*events), json.dumps(whole).encode()


def perplexity(results: object, addresses: object, **last: object) -> tuple[bytes, bytes]:
    """An answer of Perplexity, which repeats the pages that it has searched in every chunk."""
    pages = {"search_results": results, "citations": addresses}
    chunks = [
        {"id": "a", "choices": [{"index": 0, "delta": {"content": word}}], **pages}
        for word in WORDS
    ]
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunks.append({"id": "a", "choices": [end], **pages, **last})
    message = {"role": "assistant", "content": TEXT}
    one = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = {"id": "a", "choices": [one], **pages, **last}
    return frames(*chunks), json.dumps(whole).encode()


def gemini(cited: Json) -> tuple[bytes, bytes]:
    start, end = (len(TEXT[:at].encode()) for at in (cited["start"], cited["end"]))
    segment = {"startIndex": start, "endIndex": end, "text": TEXT[cited["start"] : cited["end"]]}
    grounds = {
        "groundingChunks": [
            {"maps": None},
            {"web": {"uri": cited["source"], "title": cited["title"]}},
        ],
        "groundingSupports": [{"segment": segment, "groundingChunkIndices": [1, 7, "x"]}],
    }
    parts = [{"text": word} for word in WORDS]
    said = [{"candidates": [{"content": {"parts": [each]}}]} for each in parts]
    end_ = {"finishReason": "STOP", "groundingMetadata": grounds}
    whole = {"candidates": [{"content": {"parts": parts}, **end_}]}
    return frames(*said, {"candidates": [end_]}), json.dumps(whole).encode()


PROVIDERS: dict[str, tuple[Dialect, Any]] = {
    "openai": (OPENAI_DIALECT, openai),
    "cohere": (CohereDialect(), cohere),
    "gemini": (GeminiDialect(), gemini),
}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_passage_and_its_source_are_told_streamed_and_whole(provider: str) -> None:
    dialect, told = PROVIDERS[provider]
    page = Citation(*PLACE, title="Sky", source="https://a.test/")
    place = {"start": PLACE[0], "end": PLACE[1]}
    streamed, whole = told({**place, "title": "Sky", "source": "https://a.test/"})
    for events in (heard(dialect, streamed), dialect.decode(whole)):
        answer = Completion.of(events)
        assert (answer.text, answer.citations) == (TEXT, (page,))


RESULTS = [
    {"title": "A", "url": "https://a.test/", "date": None, "snippet": "Blue."},
    {"title": "no address"},
    {"title": "B", "url": "https://b.test/"},
]
PAGES = (
    Citation(0, 0, "Blue.", "A", "https://a.test/"),
    Citation(0, 0, "", "B", "https://b.test/"),
)
PERPLEXITY = OpenAiDialect(PRESETS["perplexity"])


@pytest.mark.parametrize(
    ("results", "addresses", "pages"),
    [
        (RESULTS, ["https://a.test/", "https://b.test/"], PAGES),
        (None, ["https://a.test/", 5], (Citation(0, 0, source="https://a.test/"),)),
        ([], [], ()),
        ("?", {"a": 1}, ()),
    ],
)
def test_the_pages_that_perplexity_has_searched_are_told_once(
    results: object, addresses: object, pages: tuple[Citation, ...]
) -> None:
    """They are of the whole answer, in the order of the numbers in its text."""
    streamed, whole = perplexity(results, addresses)
    for events in (heard(PERPLEXITY, streamed), PERPLEXITY.decode(whole)):
        answer = Completion.of(events)
        assert (answer.text, answer.citations) == (TEXT, pages)
        assert sum(isinstance(each, Cited) for each in events) == bool(pages)


@pytest.mark.parametrize("name", ["search_results", "citations"])
def test_searched_pages_are_read_up_to_a_limit(name: str) -> None:
    pages: Json = {
        "search_results": [{"url": f"https://{at}"} for at in range(CITATIONS_MAX + 1)],
        "citations": [f"https://{at}" for at in range(CITATIONS_MAX + 1)],
    }
    found: Json = {"search_results": None, "citations": None, name: pages[name]}
    streamed, _ = perplexity(found["search_results"], found["citations"])
    citations = Completion.of(heard(PERPLEXITY, streamed)).citations
    assert [each.source for each in citations] == [f"https://{at}" for at in range(CITATIONS_MAX)]


def test_a_chunk_of_usage_without_pages_does_not_hide_those_before_it() -> None:
    streamed, _ = perplexity(RESULTS, None)
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    last: Json = {
        "id": "a",
        "choices": [],
        "usage": usage,
        "search_results": None,
        "citations": None,
    }
    answer = Completion.of(heard(PERPLEXITY, streamed + frames(last)))
    assert (answer.citations, answer.usage) == (PAGES, Usage(1, 1))


def test_pages_that_a_gateway_tells_in_both_formats_are_told_once() -> None:
    page = {"url": "https://a.test/", "title": "A", "start_index": 0, "end_index": 0}
    delta = {"annotations": [{"type": "url_citation", "url_citation": page}]}
    chunks = frames({"id": "a", "choices": [{"index": 0, "delta": delta}]})
    streamed, _ = perplexity(RESULTS, None)
    (found,) = Completion.of(heard(OPENAI_DIALECT, chunks + streamed)).citations
    assert found == Citation(0, 0, "", "A", "https://a.test/")


@pytest.mark.parametrize("name", ["citationSources", "citations"])  # AI Studio; Vertex AI
def test_the_works_that_gemini_repeats_are_told_with_their_passages(name: str) -> None:
    work = {"startIndex": 4, "endIndex": len(TEXT[:15].encode()), "uri": "https://a.test/"}
    other = {"endIndex": 3, "title": "B"}
    parts = [{"text": word} for word in WORDS]
    said: list[Json] = [{"candidates": [{"content": {"parts": [each]}}]} for each in parts]
    said[-1]["candidates"][0]["citationMetadata"] = {name: [work, 5, None]}
    end = {"finishReason": "STOP", "citationMetadata": {name: [work, other]}}
    whole = {"candidates": [{"content": {"parts": parts}, **end}]}
    for events in (
        heard(GeminiDialect(), frames(*said, {"candidates": [end]})),
        GeminiDialect().decode(json.dumps(whole).encode()),
    ):
        assert Completion.of(events).citations == (
            Citation(*PLACE, source="https://a.test/"),
            Citation(0, 3, title="B"),
        )


def test_works_that_each_response_repeats_do_not_use_up_the_limit() -> None:
    works = [{"endIndex": 1, "uri": f"https://{at}"} for at in range(60)]
    decoder = GeminiDialect().decoder()
    for count in range(1, 61):
        decoder.feed(
            frames({"candidates": [{"citationMetadata": {"citationSources": works[:count]}}]})
        )
    decoder.feed(frames({"candidates": [{"finishReason": "STOP"}]}))
    (cited,) = (each for each in decoder.close() if isinstance(each, Cited))
    assert len(cited.citations) == 60


def test_the_works_that_gemini_repeats_are_kept_up_to_the_limit_of_a_response() -> None:
    decoder = GeminiDialect().decoder()
    for at in range(40):
        metadata = {"citationSources": [{"endIndex": 1, "uri": f"{at}{'x' * 2**20}"}]}
        end = {"finishReason": "STOP", "citationMetadata": metadata}
        decoder.feed(frames({"candidates": [end]}))
    (cited,) = (each for each in decoder.close() if isinstance(each, Cited))
    assert len(cited.citations) == FRAME_BYTES_MAX // 2**20 - 1


def test_what_gemini_cites_comes_before_the_seal_at_its_end() -> None:
    """A seal is another block to Anthropic's clients, behind which no text is open any more."""
    streamed, _ = gemini({"start": 0, "end": 3, "title": "Sky", "source": "https://a.test/"})
    seal = {"content": {"parts": [{"text": "", "thoughtSignature": "abcd"}]}}
    *said, last, end = streamed.split(b"data: ")
    sealed = b"data: ".join([*said, last, json.dumps({"candidates": [seal]}).encode() + b"\n\n"])
    kinds = [type(each) for each in heard(GeminiDialect(), sealed + b"data: " + end)]
    assert kinds[-4:] == [TextDelta, Cited, ReasoningDelta, Stopped]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_without_its_citations_an_answer_says_the_same(provider: str) -> None:
    dialect, told = PROVIDERS[provider]
    streamed, _ = told({"start": 0, "end": 1, "title": "", "source": "s"})
    events = heard(dialect, streamed)
    plain = [each for each in events if not isinstance(each, Cited)]
    assert len(plain) == len(events) - 1
    assert Completion.of(plain).parts == Completion.of(events).parts


@pytest.mark.parametrize("provider", PROVIDERS)
@given(data=st.data())
def test_any_split_gives_the_same_citations(provider: str, data: st.DataObject) -> None:
    dialect, told = PROVIDERS[provider]
    wire, _ = told({"start": 4, "end": 15, "title": "Sky", "source": "https://a.test/"})
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)), max_size=6)))
    split = [wire[at:to] for at, to in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert heard(dialect, *split) == heard(dialect, wire)


strange = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("url_citation", "start_index", "end_index", "url", "title"),
                    *("sources", "start", "end", "document", "tool_output", "type"),
                    *("groundingChunks", "groundingSupports", "segment", "groundingChunkIndices"),
                    *("startIndex", "endIndex", "text", "web", "uri"),
                    *("citationSources", "citations", "snippet", "location", "documentChar"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(strange)
def test_whatever_stands_for_citations_the_text_comes_out(found: object) -> None:
    """A citation stands beside the answer: that it cannot be read does not make it malformed."""
    stop = {"delta": {}, "finish_reason": "stop"}
    delta = {"content": "Hi", "annotations": found}
    pages = {"citations": found, "search_results": found}
    chunks = frames(
        {"id": "a", "choices": [{"index": 0, "delta": delta}]}, {"choices": [stop], **pages}
    )
    assert Completion.of(heard(OPENAI_DIALECT, chunks)).text == "Hi"
    message = {"content": [{"type": "text", "text": "Hi"}], "citations": found}
    body = json.dumps({"id": "a", "message": message, "finish_reason": "COMPLETE"}).encode()
    assert Completion.of(CohereDialect().decode(body)).text == "Hi"
    end = {"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}
    metadata = {"groundingMetadata": found, "citationMetadata": found}
    body = json.dumps({"candidates": [{**end, **metadata}]}).encode()
    assert Completion.of(GeminiDialect().decode(body)).text == "Hi"
    blocks = {"citationsContent": {"content": [{"text": "Hi"}], "citations": found}}
    answer = {"output": {"message": {"content": [blocks]}}, "stopReason": "end_turn"}
    assert Completion.of(BedrockDialect().decode(json.dumps(answer).encode())).text == "Hi"


def test_a_passage_is_looked_for_where_its_places_do_not_fit() -> None:
    def place(**segment: object) -> tuple[int, int]:
        support = {"segment": segment, "groundingChunkIndices": [0]}
        record = {"groundingChunks": [{"web": {"uri": "u"}}], "groundingSupports": [support]}
        (cited,) = grounded(record, TEXT)
        (found,) = cited.citations
        return found.start, found.end

    assert place(startIndex=0, endIndex=3, text="blué") == (11, 15)
    assert place(startIndex=4, endIndex=16, text=SAID) == PLACE
    assert place(startIndex=0, endIndex=3, text="red") == (0, 0), "of the whole answer, then"
    assert place(startIndex=0, endIndex=3) == (0, 0)


def test_so_many_places_are_looked_for_and_no_more() -> None:
    support = {"segment": {"text": "x"}, "groundingChunkIndices": [0] * 5_000}
    (cited,) = grounded({"groundingChunks": [{}], "groundingSupports": [support] * 5}, "x" * 100)
    assert len(cited.citations) == CITATIONS_MAX


def test_what_a_tool_has_given_is_cited_by_its_words() -> None:
    source = {"type": "tool", "id": "call:0", "tool_output": {"content": "Sunny"}}
    cited = {"start": 0, "end": 2, "text": "Hi", "sources": [source, source]}
    message = {"content": "Hi", "citations": [cited]}
    body = json.dumps({"message": message, "finish_reason": "COMPLETE"}).encode()
    found = Citation(0, 2, "Sunny", source="call:0")
    assert Completion.of(CohereDialect().decode(body)).citations == (found, found)


# --- as it was recorded -------------------------------------------------------------------------


def recorded(cid: str) -> Recording:
    (found,) = recordings(lambda each: each.cid == cid)
    return found


def answer(dialect: Dialect, found: Recording) -> Completion:
    events: Iterable[ModelEvent]
    events = dialect.decode(found.body) if found.kind == "json" else heard(dialect, found.body)
    return Completion.of(events)


@needed
def test_openrouter_cites_the_pages_of_the_whole_answer_before_its_text() -> None:
    found = answer(OPENAI_DIALECT, recorded("6666e581d700"))
    assert len(found.citations) == 5
    first = found.citations[0]
    assert (first.start, first.end) == (0, 0)
    assert first.source == "https://github.com/pydantic/pydantic-ai"
    assert first.quote.startswith("# pydantic/pydantic-ai")


@needed
def test_cohere_cites_the_result_of_a_tool() -> None:
    found = answer(CohereDialect(), recorded("4b76a33e234e"))
    assert [found.text[each.start : each.end] for each in found.citations] == ["sunny", "22C."]
    assert {each.quote for each in found.citations} == {"Sunny, 22C in Paris"}


@needed
@pytest.mark.parametrize(("cid", "count"), [("53be497d5e8f", 1), ("83595a549974", 4)])
def test_gemini_cites_at_the_end_what_a_search_has_found(cid: str, count: int) -> None:
    found = answer(GeminiDialect(), recorded(cid))
    assert len(found.citations) == count
    first = found.citations[0]
    said = found.text[first.start : first.end]
    assert said in ("The capital of France is **Paris**.", found.text.strip())
    assert first.quote or first.source


@needed
def test_perplexity_cites_the_pages_that_it_has_searched() -> None:
    found = answer(PERPLEXITY, recorded("10c35ea00e85"))
    assert found.citations
    assert all(each.source.startswith("https://") for each in found.citations)
