"""What Anthropic's answers cite, and what is asked so that they do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestra.answers import Completion
from orchestra.citations import Citation, Cited, Span
from orchestra.codecs.anthropic.citations import location_records
from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.anthropic_serving.answers import MessageWriter
from orchestra.codecs.bedrock.request import converse_body
from orchestra.codecs.framing.frames import FRAME_BYTES_MAX
from orchestra.codecs.gemini.request import gemini_body
from orchestra.codecs.ollama.request import chat_body as ollama_body
from orchestra.codecs.openai.quirks import OPENAI
from orchestra.codecs.openai.request import chat_body as openai_body
from orchestra.errors import CapabilityError, MalformedStreamError
from orchestra.values import (
    ChatRequest,
    FilePart,
    Json,
    Message,
    ModelEvent,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
    ToolCallDelta,
)
from tests.recordings import needed, recordings

DIALECT = AnthropicDialect()
CHARS = {
    "type": "char_location",
    "cited_text": "The grass is green.",
    "document_index": 0,
    "document_title": "Colours",
    "start_char_index": 0,
    "end_char_index": 20,
}
PAGES = {
    "type": "page_location",
    "cited_text": "Water is wet.",
    "document_index": 1,
    "document_title": None,
    "start_page_number": 5,
    "end_page_number": 6,
}
BLOCKS = {
    "type": "content_block_location",
    "cited_text": "One.",
    "document_index": 2,
    "document_title": "Chunks",
    "start_block_index": 0,
    "end_block_index": 1,
}
RESULT = {
    "type": "search_result_location",
    "cited_text": "Two.",
    "source": "https://a.test/",
    "title": "A",
    "search_result_index": 0,
    "start_block_index": 1,
    "end_block_index": 2,
}
PAGE = {
    "type": "web_search_result_location",
    "cited_text": "Three.",
    "url": "https://b.test/",
    "title": "B",
    "encrypted_index": "",
}
READ: dict[str, tuple[Json, Citation]] = {
    "characters": (
        CHARS,
        Citation(0, 3, "The grass is green.", "Colours", "", 0, Span("characters", 0, 20)),
    ),
    "pages": (PAGES, Citation(0, 3, "Water is wet.", "", "", 1, Span("pages", 5, 6))),
    "blocks": (BLOCKS, Citation(0, 3, "One.", "Chunks", "", 2, Span("blocks", 0, 1))),
    "a result": (RESULT, Citation(0, 3, "Two.", "A", "https://a.test/", 0, Span("blocks", 1, 2))),
    "a page": (PAGE, Citation(0, 3, "Three.", "B", "https://b.test/")),
}


def frame(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (
        kind.encode(),
        json.dumps({"type": kind, **fields}).encode(),
    )


def block(*deltas: str | Json, ends: bool = True, index: int = 0, **start: Any) -> bytes:
    """A text block of these texts and citations, in this order."""
    begun = {"type": "text", "text": "", **start}
    frames = [frame("content_block_start", index=index, content_block=begun)]
    for each in deltas:
        text = {"type": "text_delta", "text": each}
        delta = text if isinstance(each, str) else {"type": "citations_delta", "citation": each}
        frames.append(frame("content_block_delta", index=index, delta=delta))
    return b"".join([*frames, frame("content_block_stop", index=index) if ends else b""])


def heard(*blocks: bytes) -> list[ModelEvent]:
    end = frame("message_delta", delta={"stop_reason": "end_turn"}) + frame("message_stop")
    decoder = DIALECT.decoder()
    found = [*decoder.feed(b"".join([*blocks, end])), *decoder.close()]
    return [each for each in found if not isinstance(each, Stopped)]


@pytest.mark.parametrize("kind", READ)
def test_each_kind_of_location_is_read_and_written(kind: str) -> None:
    location, meant = READ[kind]
    assert heard(block("Yes", location)) == [TextDelta("Yes"), Cited((meant,))]
    whole = {
        "content": [{"type": "text", "text": "Yes", "citations": [location]}],
        "stop_reason": "end_turn",
    }
    assert Completion.of(DIALECT.decode(json.dumps(whole).encode())).citations == (meant,)
    assert location_records([meant]) == [location]


def test_citations_come_behind_their_text_wherever_the_provider_told_them() -> None:
    early = heard(block("So ", "far."), block(CHARS, PAGES, "Yes", ", it is"), block("."))
    assert early == heard(block("So ", "far."), block("Yes", CHARS, ", it is", PAGES), block("."))
    first, second = (each for each in early[-2:-1] if isinstance(each, Cited)).__next__().citations
    assert [type(each).__name__ for each in early] == [
        *("TextDelta", "TextDelta", "Cited", "TextDelta", "TextDelta", "Cited", "TextDelta"),
    ]
    assert early[2] == Cited(), "where a passage begins, a block for it can begin too"
    assert (first.start, first.end, first.index) == (7, 17, 0)
    assert (second.start, second.end, second.index) == (7, 17, 1)
    assert Completion.of([*early, Stopped(StopReason.END)]).text == "So far.Yes, it is."


def test_a_block_without_an_end_is_ended_by_the_next_and_by_the_end_of_the_message() -> None:
    told = heard(block("a", CHARS, ends=False), block("b", PAGES, ends=False, index=1))
    assert told == heard(block("a", CHARS), block("b", PAGES, index=1))


def test_a_block_may_come_with_all_its_citations() -> None:
    assert heard(block("a", citations=[CHARS, None, 5])) == heard(block("a", CHARS))
    assert heard(block("a", citations=None)) == heard(block("a", citations=[])) == [TextDelta("a")]


def test_between_a_text_and_a_call_there_is_no_passage() -> None:
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    called = frame("content_block_start", index=1, content_block=call)
    called += frame("content_block_stop", index=1)
    assert heard(block("a"), called, block("b", CHARS, index=2))[:3] == [
        *(TextDelta("a"), ToolCallDelta(0, "c", "f"), TextDelta("b")),
    ]


@pytest.mark.parametrize(
    "strange",
    [
        {"type": "new_location", "start_char_index": 1},
        {"cited_text": 5, "document_index": "x", "start_page_number": -1, "end_page_number": 1},
        {"document_index": True, "start_block_index": 0, "end_block_index": 2**60},
    ],
)
def test_what_cannot_be_read_in_a_citation_is_left_out(strange: Json) -> None:
    assert heard(block("a", strange)) == [TextDelta("a"), Cited((Citation(0, 1),))]


def test_citations_of_a_block_without_text_belong_to_the_text_before() -> None:
    answer = Completion.of([*heard(block("a"), block("bc"), block(CHARS)), Stopped(StopReason.END)])
    (found,) = answer.citations
    assert (answer.text[found.start : found.end], found.index) == ("bc", 0)


def test_a_block_that_cites_without_end_is_refused() -> None:
    large = {"cited_text": "x" * (FRAME_BYTES_MAX // 8)}
    with pytest.raises(MalformedStreamError, match="cites over"):
        heard(block("a", *[large] * 9))
    assert len(heard(*(block("a", large) for _ in range(9)))) == 18


@needed
def test_a_search_of_the_web_was_cited_so() -> None:
    (recorded,) = recordings(lambda each: each.cid == "f31c2f7bc55b")
    decoder = DIALECT.decoder()
    answer = Completion.of([*decoder.feed(recorded.body), *decoder.close()])
    (found,) = answer.citations
    assert answer.text[found.start : found.end].startswith("On September 18, 1793, President")
    assert answer.text[found.end :] == "."
    assert found.source == "https://www.thefactsite.com/day/september-18/"
    assert found.quote.startswith("Did you know that on this day")
    writer = MessageWriter("msg", "m")
    decoder = DIALECT.decoder()
    again = writer.write([*decoder.feed(recorded.body), *decoder.close()]) + writer.close()
    texts = again.count(b'"content_block":{"type":"text"')
    assert texts == recorded.body.replace(b" ", b"").count(b'"type":"text","text":""'), "as it was"


# --- what is asked ------------------------------------------------------------------------------


def asked(*parts: FilePart | TextPart) -> ChatRequest:
    return ChatRequest((Message("user", parts),))


def shown(*parts: FilePart | TextPart) -> list[Json]:
    call = DIALECT.ask("claude", asked(*parts), stream=False)
    content: list[Json] = json.loads(call.body)["messages"][0]["content"]
    return content


CITED = {"citations": {"enabled": True}}
ONE_TWO = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]


def test_a_document_is_cited_by_its_characters_pages_or_pieces() -> None:
    text = FilePart(b"one", "text/plain", "a", citations=True)
    pdf = FilePart(b"%PDF-", "application/pdf", citations=True, prompt_cache=True)
    pieces = FilePart(b"one\n\ntwo", "text/plain", "b", citations=True, passages=("one", "", "two"))
    one, two = ONE_TWO
    assert shown(text, pdf, pieces) == [
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "one"},
            "title": "a",
            **CITED,
        },
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": pdf.base64},
            **CITED,
            "cache_control": {"type": "ephemeral"},
        },
        {
            "type": "document",
            "source": {"type": "content", "content": [one, {"type": "text", "text": ""}, two]},
            "title": "b",
            **CITED,
        },
    ]


def test_what_a_search_has_found_is_cited_as_that() -> None:
    found = FilePart(b"one\n\ntwo", "text/plain", "T (s)", passages=("one", "two"), source="s")
    assert shown(found)[0]["type"] == "document", "for models that know no results of a search"
    cited = FilePart(
        b"", "text/plain", "T (s)", citations=True, passages=("one", "two"), source="s"
    )
    result = {"type": "search_result", "source": "s", "title": "T", "content": ONE_TWO}
    assert shown(cited) == [{**result, **CITED}]
    alone = FilePart(b"one", "text/plain", citations=True, source="s")
    assert shown(alone) == [{**result, "title": "s", "content": ONE_TWO[:1], **CITED}]


@pytest.mark.parametrize("part", [FilePart(b"a", "text/plain"), FilePart(b"%PDF-")])
@pytest.mark.parametrize(
    "body",
    [
        lambda request: openai_body("m", request, OPENAI, stream=False),
        lambda request: gemini_body("m", request),
        lambda request: ollama_body("m", request, stream=False),
        lambda request: converse_body("m", request),
    ],
)
def test_who_cannot_be_asked_to_cite_is_not_asked(body: Any, part: FilePart) -> None:
    cited = FilePart(part.data, part.media_type, "a.txt", citations=True)
    with pytest.raises(CapabilityError, match=r"cannot cite the file 'a\.txt'; leave"):
        body(asked(cited))
