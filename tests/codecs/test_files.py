"""Files that are sent along: whole to whoever reads them, as text to everybody, else refused."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.codecs.cohere.dialect import CohereDialect
from orchestra.codecs.data_urls import read_data_url
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.files import handed_in
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.codecs.ollama.dialect import OllamaDialect
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import AZURE, GENERIC, MISTRAL, OPENAI, OPENROUTER, VLLM
from orchestra.errors import CapabilityError
from orchestra.values import ChatRequest, FilePart, ImagePart, Json, Message, Part, TextPart
from tests.recordings import needed, recordings

PDF = b"%PDF-1.4 a page"
BASE64 = b64encode(PDF).decode()
REPORT = FilePart(PDF, name="Q3 report_v2.final.pdf")
NOTES = FilePart("Grüße".encode(), "text/markdown", "notes.md")

CLAUDE, NOVA, TITAN = "anthropic.claude-sonnet-4-6", "amazon.nova-lite-v1:0", "amazon.titan-text-x"
OPENAIS_PART: Json = {
    "type": "file",
    "file": {"filename": REPORT.name, "file_data": f"data:application/pdf;base64,{BASE64}"},
}
ANTHROPICS_PART: Json = {
    "type": "document",
    "source": {"type": "base64", "media_type": "application/pdf", "data": BASE64},
    "title": REPORT.name,
}
AMAZONS_PART: Json = {
    "document": {"format": "pdf", "name": "Q3 report v2 final", "source": {"bytes": BASE64}}
}
READERS: list[tuple[Dialect, str, Json]] = [
    (OpenAiDialect(OPENAI), "gpt-5", OPENAIS_PART),
    (OpenAiDialect(OPENROUTER), "openai/gpt-5", OPENAIS_PART),
    (OpenAiDialect(GENERIC), "any", OPENAIS_PART),
    (AnthropicDialect(), "claude-sonnet-5", ANTHROPICS_PART),
    (BedrockInvokeDialect(), CLAUDE, ANTHROPICS_PART),
    (BedrockDialect(), CLAUDE, AMAZONS_PART),
    (BedrockInvokeDialect(), NOVA, AMAZONS_PART),
    (
        GeminiDialect(),
        "gemini-3-flash",
        {"inlineData": {"mimeType": "application/pdf", "data": BASE64}},
    ),
]
OTHERS: list[tuple[Dialect, str]] = [
    (OpenAiDialect(AZURE), "gpt-5"),
    (OpenAiDialect(MISTRAL), "mistral-large-latest"),
    (OpenAiDialect(VLLM), "any"),
    (CohereDialect(), "command-a"),
    (OllamaDialect(), "llama3"),
    (BedrockInvokeDialect(), TITAN),
    (BedrockInvokeDialect(), "meta.llama3-8b"),
    (BedrockInvokeDialect(), "mistral.mistral-7b"),
]
EVERYBODY = [*((dialect, model) for dialect, model, _ in READERS), *OTHERS]


def sent(dialect: Dialect, model: str, *parts: Part) -> Json:
    request = ChatRequest((Message("user", parts),))
    body: Json = json.loads(dialect.ask(model, request, stream=False).body)
    return body


def content(body: Json) -> list[Json]:
    """The parts of the one turn, whoever's form it is."""
    (turn,) = body.get("messages") or body["contents"]
    found: list[Json] = turn.get("content") or turn["parts"]
    return found


@pytest.mark.parametrize(("dialect", "model", "part"), READERS)
def test_a_pdf_goes_to_who_reads_it(dialect: Dialect, model: str, part: Json) -> None:
    assert content(sent(dialect, model, TextPart("Sum up."), REPORT))[1] == part


@pytest.mark.parametrize(("dialect", "model"), OTHERS)
def test_a_pdf_is_refused_for_who_does_not(dialect: Dialect, model: str) -> None:
    wrong = "the file 'Q3 report_v2.final.pdf' cannot be sent to .* ask a model that does"
    with pytest.raises(CapabilityError, match=wrong):
        sent(dialect, model, TextPart("Sum up."), REPORT)


@pytest.mark.parametrize(("dialect", "model"), EVERYBODY)
@pytest.mark.parametrize("media_type", ["text/plain", "text/markdown", "application/json"])
def test_the_text_of_a_file_goes_to_everybody(
    dialect: Dialect, model: str, media_type: str
) -> None:
    file = FilePart("Grüße".encode(), media_type, "notes.md")
    body = sent(dialect, model, TextPart("Sum up."), file)
    told = json.dumps(body, ensure_ascii=False)
    assert "Grüße" in told or b64encode(file.data).decode() in told
    assert "Sum up." in told
    assert "notes" in told


def test_text_has_its_own_place_where_there_is_one() -> None:
    body = sent(AnthropicDialect(), "claude-sonnet-5", NOTES)
    source = {"type": "text", "media_type": "text/plain", "data": "Grüße"}
    assert content(body) == [{"type": "document", "source": source, "title": "notes.md"}]
    body = sent(BedrockDialect(), CLAUDE, NOTES)
    data = {"bytes": b64encode(NOTES.data).decode()}
    assert content(body) == [{"document": {"format": "md", "name": "notes", "source": data}}]
    body = sent(OpenAiDialect(OPENAI), "gpt-5", NOTES)
    assert content(body) == [{"type": "text", "text": "\nnotes.md:\n\nGrüße\n"}]
    body = sent(GeminiDialect(), "gemini-3-flash", FilePart(b"Hi", "text/x-rst"))
    assert content(body) == [{"text": "\nHi\n"}]


@pytest.mark.parametrize(
    ("dialect", "model"),
    [
        (OpenAiDialect(OPENAI), "gpt-5"),
        (AnthropicDialect(), "claude-5"),
        (BedrockDialect(), CLAUDE),
    ],
)
def test_what_is_neither_is_refused_where_it_is_not_read(dialect: Dialect, model: str) -> None:
    with pytest.raises(CapabilityError, match="which does not accept files of type 'audio/mpeg'"):
        sent(dialect, model, FilePart(b"x", "audio/mpeg", "song.mp3"))


@pytest.mark.parametrize(
    ("dialect", "model"), [(OpenAiDialect(OPENAI), "gpt-5"), (AnthropicDialect(), "claude-5")]
)
def test_text_that_is_none_is_refused(dialect: Dialect, model: str) -> None:
    with pytest.raises(CapabilityError, match=r"'n\.txt' is not UTF-8 text, at byte 1"):
        sent(dialect, model, FilePart(b"a\xff", "text/plain", "n.txt"))


def test_office_documents_go_to_bedrock() -> None:
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    (part,) = content(sent(BedrockDialect(), NOVA, FilePart(b"PK", kind)))
    assert part["document"] == {"format": "docx", "name": "document", "source": {"bytes": "UEs="}}


def test_a_file_stands_in_a_users_turn() -> None:
    request = ChatRequest((Message("assistant", (REPORT,)),))
    with pytest.raises(CapabilityError, match="images and files belong in a user's"):
        OpenAiDialect(OPENAI).ask("gpt-5", request, stream=False)


names = st.text(max_size=250) | st.sampled_from(["a.pdf", "A.txt", "a", "a (2)", "", ".pdf"])


@given(st.lists(st.tuples(names, st.binary(max_size=3)), min_size=1, max_size=5))
def test_bedrock_takes_every_name_and_none_twice(files: list[tuple[str, bytes]]) -> None:
    """Letters, digits, single spaces, hyphens, brackets: up to 200, and each only once."""
    parts = [FilePart(data, name=name) for name, data in files]
    documents = [each["document"] for each in content(sent(BedrockDialect(), CLAUDE, *parts))]
    told = [each["name"] for each in documents]
    assert all(re.fullmatch(r"(?! )(?:[a-zA-Z0-9()\[\]-]| (?! ))+(?<! )", each) for each in told)
    assert max(map(len, told)) <= 200
    assert len({each.lower() for each in told}) == len(told)
    assert [b64decode(each["source"]["bytes"]) for each in documents] == [data for _, data in files]


@needed
def test_documents_are_as_others_have_sent_them() -> None:
    (case,) = recordings(lambda each: '"document":' in json.dumps(each.request))
    (turn,) = case.request["messages"]
    documents = [each["document"] for each in turn["content"] if "document" in each]
    assert documents
    files = [
        FilePart(b64decode(each["source"]["bytes"]), "text/plain", f"{each['name']}.txt")
        for each in documents
    ]
    found = content(sent(BedrockDialect(), CLAUDE, *files))
    assert [each["document"] for each in found] == documents


# --- from clients -----------------------------------------------------------------------------


@given(st.binary(max_size=9), st.sampled_from(["a.pdf", "b", ""]), st.booleans())
def test_a_file_in_a_request_is_that_file(data: bytes, name: str, plain: bool) -> None:
    part = FilePart(data, "application/pdf", name)
    if plain and name == "a.pdf":
        assert handed_in(part.base64, name) == part
    assert handed_in(part.data_url, name) == part


@given(st.text(max_size=20) | st.text(max_size=9).map("data:text/plain;base64,".__add__), names)
def test_any_text_at_all_is_a_file_or_a_typed_error(written: str, name: str) -> None:
    with suppress(ValueError):
        assert isinstance(handed_in(written, name), FilePart)


@pytest.mark.parametrize(
    ("written", "name", "found"),
    [
        ("data:application/x-pdf;base64,", "a.pdf", FilePart(b"", name="a.pdf")),
        (BASE64, "", FilePart(PDF)),
        ("R3L832U=", "n.md", None),
        (
            "data:text/plain;charset=iso-8859-1;base64,R3L832U=",
            "n.txt",
            FilePart("Grüße".encode(), "text/plain", "n.txt"),
        ),
        ("data:;base64,R3L8w59l", "x.bin", None),
        ("data:text/plain;base64,R3L832U=", "n.txt", None),
        ("data:text/plain;charset=nonsense;base64,R3L832U=", "n.txt", None),
        ("data:text/plain,Hi", "n.txt", None),
        ("no base64!", "n.txt", None),
        ("data:image/jpg;base64,", "a", FilePart(b"", "image/jpeg", "a")),
    ],
)
def test_what_a_client_sends_says_what_it_is(
    written: str, name: str, found: FilePart | None
) -> None:
    if found is None:
        with pytest.raises(ValueError, match=r"base64|send UTF-8|is not utf-8 text|is unknown"):
            handed_in(written, name)
    else:
        assert handed_in(written, name) == found


@given(st.binary(max_size=9), st.sampled_from(["", "image/png", "text/plain;charset=utf-8"]))
def test_a_data_url_is_read_as_it_was_written(data: bytes, media_type: str) -> None:
    url = f"data:{media_type};base64,{b64encode(data).decode()}"
    assert read_data_url(url) == (data, media_type)
    assert read_data_url("https://u/a.pdf") is None


@given(st.lists(st.sampled_from(["a", "/", ";", "=", ";a=a", ";base64", ",", "\n"]), max_size=9))
def test_the_head_of_a_data_url_is_a_type_with_its_parameters(head: list[str]) -> None:
    """Compared with the expression without possessive quantifiers."""
    url = f"data:{''.join(head)};base64,aGk="
    word = r"[\w.+-]+"
    plain = rf"data:((?:{word}/{word})?(?:;{word}={word})*)(?:;[\w=.+-]+)*;base64,(.*)"
    found = re.fullmatch(plain, url, re.DOTALL)
    try:
        read = read_data_url(url)
    except ValueError:
        read = None
    assert read == ((b"hi", found[1]) if found and found[2] == "aGk=" else None)


@pytest.mark.parametrize("unit", [";a=a", ";a", "a/", ";a=a=", ";base64", ";a=a;"])
def test_a_data_url_without_an_end_takes_no_quadratic_time(unit: str) -> None:
    """In quadratic time, this would not end within an hour."""
    with pytest.raises(ValueError, match="is not a data URL in base64"):
        read_data_url("data:" + unit * 250_000)


def test_an_image_and_a_file_are_one_idea_with_two_names() -> None:
    file, image = FilePart(b"hi", "image/png"), ImagePart(b"hi", "image/png")
    assert len({file, image}) == 2
    assert file.data_url == image.data_url == "data:image/png;base64,aGk="
    assert "hi" not in repr(file), "bytes are not for logs"
