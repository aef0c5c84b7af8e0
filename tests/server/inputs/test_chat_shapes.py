"""Which pipelines can be spoken with, what they are given, and how what they give is told."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.access.principal import ANYBODY, Scopes
from orchestra.answers import Completion
from orchestra.errors import InvalidRequestError, TruncatedStreamError
from orchestra.events import RunFinished
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.steps import step
from orchestra.protocols import Stream
from orchestra.server.inputs.chat_shapes import shape_of
from orchestra.server.models.catalog import Bare, Catalog, Spoken
from orchestra.steps.conversation.options import Asked
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import (
    ChatRequest,
    FilePart,
    ImagePart,
    ImageUrlPart,
    JsonOutput,
    Message,
    ModelEvent,
    Part,
    ReasoningEffort,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
    Tool,
)

SAID = (Message("user", "first"), Message("assistant", "yes"), Message("user", "last"))
ASKED = ChatRequest(SAID, temperature=0.5)
END = Stopped(StopReason.END)


@step
async def words(given: object) -> AsyncIterator[str]:
    yield str(given)


@step
async def told(given: object) -> AsyncIterator[ModelEvent]:
    yield TextDelta(str(given))


@step
def answered(given: object) -> Completion:
    return Completion((TextPart(str(given)),), END)


@step
def spelled(given: object) -> str:
    return str(given)


@pipeline
def of_text(question: str, tone: str = "kind") -> Stream[str]:
    return words(question)


@pipeline
def of_text_described(question: Annotated[str, "asked"]) -> Annotated[str, "the answer"]:
    return spelled(question)


@pipeline
def of_words_described(question: str) -> Stream[Annotated[str, "a word"]]:
    return words(question)


@pipeline
def of_list(messages: list[Message]) -> str:
    return spelled(messages)


@pipeline
def of_tuple(messages: tuple[Message, ...]) -> Completion:
    return answered(messages)


@pipeline
def of_request(request: ChatRequest) -> Stream[ModelEvent]:
    return told(request)


@pipeline
def of_anything_asked(asked: Asked) -> Stream[str]:
    return words(asked)


@pipeline
def of_two(question: str, other: str) -> Stream[str]:
    return words(question)


@pipeline
def of_number(count: int) -> Stream[str]:
    return words(count)


@pipeline
def of_any(given: Any) -> Stream[str]:
    return words(given)


@pipeline
def unsaid(question: str):  # type: ignore[no-untyped-def]  # noqa: ANN201 - it says not what it gives
    return words(question)


@pytest.mark.parametrize(
    ("chat", "given"),
    [
        (of_text, {"question": "last"}),
        (of_text_described, {"question": "last"}),
        (of_words_described, {"question": "last"}),
        (of_list, {"messages": list(SAID)}),
        (of_tuple, {"messages": SAID}),
        (of_request, {"request": ASKED}),
        (of_anything_asked, {"asked": ASKED}),
    ],
)
def test_a_pipeline_is_given_as_much_as_it_can_take(
    chat: Pipeline[..., Any], given: object
) -> None:
    shape = shape_of(chat)
    assert shape is not None
    assert shape.inputs(ASKED) == given


@pytest.mark.parametrize("other", [of_two, of_number, of_any, unsaid])
def test_what_has_another_shape_is_no_model(other: Pipeline[..., Any]) -> None:
    assert shape_of(other) is None


@pipeline
def of_wishes(
    question: str,
    *,
    temperature: float = 0.2,
    top_p: float | None = None,
    output_tokens_max: int | None = None,
    stop: Sequence[str] = (),
    seed: int | None = None,
    reasoning_effort: ReasoningEffort | None = None,
    tone: str = "kind",
) -> Stream[str]:
    return words(question)


@pipeline
def of_a_list(question: str, stop: list[str] | None = None) -> Stream[str]:
    return words(question)


@pipeline
def of_other_types(question: str, temperature: str = "warm", seed: int = 1) -> Stream[str]:
    return words(question)


wishes = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "output_tokens_max": st.integers(1),
        "stop": st.lists(st.text(), min_size=1).map(tuple),
        "seed": st.integers(),
        "reasoning_effort": st.sampled_from(["none", "low", "max"]),
    },
)


def given_to(chat: Pipeline[..., Any], request: ChatRequest) -> Mapping[str, object]:
    shape = shape_of(chat)
    assert shape is not None
    return shape.inputs(request)


@given(wishes)
def test_a_pipeline_hears_the_wishes_that_it_takes_and_no_others(asked: dict[str, Any]) -> None:
    request = ChatRequest(SAID, top_k=3, **asked)
    assert given_to(of_wishes, request) == {"question": "last", **asked}
    stop = {"stop": list(asked["stop"])} if "stop" in asked else {}
    assert given_to(of_a_list, request) == {"question": "last", **stop}
    seed = {"seed": asked["seed"]} if "seed" in asked else {}
    assert given_to(of_other_types, request) == {"question": "last", **seed}
    assert given_to(of_text, request) == {"question": "last"}


PICTURE = ImageUrlPart("https://example.org/a.png")


@pytest.mark.parametrize(
    ("content", "lacks"),
    [
        ((TextPart("what is it?"), PICTURE), "has an image"),
        ((TextPart("what is it?"), ImagePart(b"\x89PNG", "image/png")), "has an image"),
        ((TextPart("what is it?"), FilePart(b"%PDF-")), "has a file"),
        ("", "has no text"),
        ((), "has no text"),
    ],
)
def test_what_a_text_cannot_hold_is_refused(content: str | tuple[Part, ...], lacks: str) -> None:
    """It was dropped without a word, and an empty question was answered."""
    request = ChatRequest((*SAID, Message("user", content)))
    text, whole = shape_of(of_text), shape_of(of_list)
    assert text is not None
    assert whole is not None
    wrong = rf"messages: the last user message {lacks}, .*let it take `list\[Message\]`"
    with pytest.raises(InvalidRequestError, match=wrong) as caught:
        text.inputs(request)
    assert caught.value.status == 400
    assert whole.inputs(request) == {"messages": list(request.messages)}
    before = ChatRequest((Message("user", content), *SAID))
    assert text.inputs(before) == {"question": "last"}


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("tools", ChatRequest(SAID, tools=(Tool("t", "", {}),))),
        ("response_format", ChatRequest(SAID, output=JsonOutput())),
        ("logprobs", ChatRequest(SAID, logprobs=0)),
    ],
)
def test_what_a_pipeline_would_not_hear_of_is_refused(field: str, request_: ChatRequest) -> None:
    for chat in (of_text, of_list, of_tuple):
        shape = shape_of(chat)
        assert shape is not None
        with pytest.raises(InvalidRequestError) as caught:
            shape.inputs(request_)
        assert caught.value.message.startswith(f"{field}: this model is a pipeline")
    shape = shape_of(of_request)
    assert shape is not None
    assert shape.inputs(request_) == {"request": request_}


def test_without_a_question_there_is_nothing_to_answer() -> None:
    shape = shape_of(of_text)
    assert shape is not None
    with pytest.raises(InvalidRequestError, match="messages: there is no user message"):
        shape.inputs(ChatRequest((Message("system", "Be kind"),)))


def test_what_it_gives_is_told_as_a_model_would() -> None:
    def gives(chat: Pipeline[..., Any]) -> Any:
        shape = shape_of(chat)
        assert shape is not None
        return shape.gives

    def end(result: object, *, cut: bool = False) -> RunFinished:
        return RunFinished(9, 1.0, result, {}, cut=cut)

    whole = Completion((TextPart("a"),), END)
    streamed, text = gives(of_text), gives(of_list)
    completion, events = gives(of_tuple), gives(of_request)
    assert streamed.of_chunk("a") == (0, (TextDelta("a"),))
    assert list(streamed.ending(end("a"))) == [END]
    assert list(text.ending(end("a"))) == [TextDelta("a"), END]
    assert text.whole(end("a")) == streamed.whole(end("a")) == [whole]
    assert text.whole(end("")) == [Completion((), END)]
    cut = Stopped(StopReason.LENGTH)
    assert list(streamed.ending(end("a", cut=True))) == [cut]
    assert text.whole(end("a", cut=True)) == [Completion((TextPart("a"),), cut)]
    assert list(completion.of_chunk("a")[1]) == []
    assert list(completion.ending(end(whole))) == [TextDelta("a"), END]
    assert completion.whole(end(whole)) == [whole]
    assert events.of_chunk(END) == (0, (END,))
    assert list(events.ending(end([]))) == []
    assert events.whole(end([TextDelta("a"), END])) == [whole]
    with pytest.raises(TruncatedStreamError):
        events.whole(end([TextDelta("a")]))


def test_names_are_seen_by_those_who_may_ask_them(caplog: pytest.LogCaptureFixture) -> None:
    """A pipeline that has a model's name is not offered, and a line says so."""
    model = ScriptedModel.saying("a")
    world = World(models={"m": model, "other": model}, embedders={"m": model, "e": model})  # type: ignore[dict-item]
    with caplog.at_level(logging.WARNING):
        catalog = Catalog(world, {"chat": of_text, "m": of_list, "no": of_number})
    assert "pipeline 'm' is not offered as a model: a model has that name" in caplog.text
    everything = ANYBODY.scopes
    assert [each.name for each in catalog.seen_by(everything)] == ["m", "other", "e", "chat"]
    assert catalog.find("m", everything) == Bare("m", speaks=True, embeds=True)
    assert catalog.find("e", everything) == Bare("e", speaks=False, embeds=True)
    assert isinstance(catalog.find("chat", everything), Spoken)
    assert catalog.find("no", everything) is None
    some = Scopes(pipelines=frozenset({"chat"}), models=frozenset({"other"}))
    assert [each.name for each in catalog.seen_by(some)] == ["other", "chat"]
    assert catalog.find("m", some) is None
    assert catalog.seen_by(Scopes()) == []
