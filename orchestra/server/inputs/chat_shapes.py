"""Which pipelines can be spoken with as if they were models, and what they are given. Pure.

That is one whose only required input is a text, a conversation or a request, and which gives text,
a completion, or the events of a model. What it gives is told as the events of a model's answer, or
as whole answers. How to answer is heard by optional inputs with the names of `generate`'s keywords.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import attrs

from orchestra.annotations.facts import MISSING, Fit, accepts, chunk_of, compare
from orchestra.annotations.shapes import plain
from orchestra.answers import Answer, Completion
from orchestra.codecs.serving.requests import refused
from orchestra.errors import InvalidRequestError
from orchestra.policies.answers.replayed import events_of
from orchestra.steps.relay import Said
from orchestra.values import (
    ChatRequest,
    FilePart,
    Message,
    ModelEvent,
    ReasoningEffort,
    Stopped,
    StopReason,
    TextDelta,
    TextPart,
)

if TYPE_CHECKING:
    from orchestra.events import RunFinished
    from orchestra.graph.nodes import Input
    from orchestra.graph.pipelines import Pipeline

_END, _CUT = Stopped(StopReason.END), Stopped(StopReason.LENGTH)
_HOW: Mapping[str, tuple[object, ...]] = {
    "temperature": (float,),
    "top_p": (float,),
    "output_tokens_max": (int,),
    "stop": (tuple[str, ...], list[str]),
    "seed": (int,),
    "reasoning_effort": (ReasoningEffort,),
}
"""Keywords of `generate`, each with the types in which a pipeline may take it as an input."""


class Gives(Protocol):
    """How the output of a run is told as answers of a model."""

    def said(self, chunk: Any) -> tuple[int, Iterable[ModelEvent]]:
        """Which answer a chunk of it belongs to, and its events."""

    def ending(self, end: RunFinished) -> Iterable[ModelEvent]:
        """The remaining events of the first answer, when the run has finished."""

    def whole(self, end: RunFinished) -> list[Completion]:
        """The answers that the result of the run is.

        Raises:
            TruncatedStreamError: one of them does not say why it stopped.
        """


class GivesRelayed:
    """A pipeline that returns `relay`'s stream."""

    def said(self, chunk: Said) -> tuple[int, Iterable[ModelEvent]]:
        """As it came."""
        return chunk.choice, chunk.events

    def ending(self, end: RunFinished) -> Iterable[ModelEvent]:
        """Nothing: they have stopped."""
        del end
        return ()

    def whole(self, end: RunFinished) -> list[Completion]:
        """The result of `relay_whole`, or of the chunks of `relay`."""
        result: Sequence[Completion | Said] = end.result
        growing: dict[int, Answer] = {}
        whole: list[Completion] = []
        for each in result:
            if isinstance(each, Completion):
                whole.append(each)
                continue
            answer = growing.setdefault(each.choice, Answer())
            for event in each.events:
                answer.add(event)
        return whole or [growing[choice].completion() for choice in sorted(growing)]


class GivesText:
    """Text, whole or as a stream."""

    def __init__(self, *, streams: bool) -> None:
        self._streams = streams

    def said(self, chunk: str) -> tuple[int, Iterable[ModelEvent]]:
        """A piece of the one answer."""
        return 0, (TextDelta(chunk),)

    def ending(self, end: RunFinished) -> Iterable[ModelEvent]:
        """The end, after the text if that has not been written."""
        stopped = _CUT if end.cut else _END
        return (stopped,) if self._streams else (TextDelta(end.result), stopped)

    def whole(self, end: RunFinished) -> list[Completion]:
        """The text as an answer."""
        parts = (TextPart(end.result),) if end.result else ()
        return [Completion(parts, _CUT if end.cut else _END)]


class GivesCompletion:
    """A whole answer of a model."""

    def said(self, chunk: object) -> tuple[int, Iterable[ModelEvent]]:
        """Nothing: there are no chunks."""
        del chunk
        return 0, ()

    def ending(self, end: RunFinished) -> Iterable[ModelEvent]:
        """All of it."""
        return events_of(end.result)

    def whole(self, end: RunFinished) -> list[Completion]:
        """It."""
        return [end.result]


class GivesEvents:
    """The events of a model's answer."""

    def said(self, chunk: ModelEvent) -> tuple[int, Iterable[ModelEvent]]:
        """One event of the one answer."""
        return 0, (chunk,)

    def ending(self, end: RunFinished) -> Iterable[ModelEvent]:
        """Nothing: it has stopped, or was cut."""
        del end
        return ()

    def whole(self, end: RunFinished) -> list[Completion]:
        """The completion of the events."""
        return [Completion.of(end.result)]


@attrs.frozen
class ChatShape:
    """A pipeline that can be spoken with: what it is given, and how what it gives is told.

    `how` maps the inputs that are told how to answer to their annotations.
    """

    pipeline: Pipeline[..., Any]
    input: str
    take: Callable[[ChatRequest], object]
    gives: Gives
    how: Mapping[str, object]

    def inputs(self, request: ChatRequest) -> Mapping[str, object]:
        """The inputs of its run.

        Raises:
            InvalidRequestError: it is asked for what only a model can give.
        """
        given: dict[str, object] = {self.input: self.take(request)}
        for name, annotation in self.how.items():
            value = getattr(request, name)
            if value not in (None, ()):
                given[name] = value if accepts(annotation, value) else list(value)
        return given


def shape_of(pipeline: Pipeline[..., Any]) -> ChatShape | None:
    """How a pipeline is spoken with; None where it is of another shape."""
    required = [each for each in pipeline.inputs.values() if each.default is MISSING]
    gives = _gives(pipeline.returns)
    if len(required) != 1 or gives is None:
        return None
    (asked,) = required
    take = _take(asked.annotation)
    optional = (each for each in pipeline.inputs.values() if each is not asked)
    how = {each.name: each.annotation for each in optional if _is_told(each)}
    return None if take is None else ChatShape(pipeline, asked.name, take, gives, how)


def _is_told(each: Input) -> bool:
    """Whether an input is told how to answer: by its name and its type."""
    return any(_fits(kind, each.annotation) for kind in _HOW.get(each.name, ()))


def _gives(returns: object) -> Gives | None:
    chunk, returns = chunk_of(returns), plain(returns)
    if chunk is str or returns is str:
        return GivesText(streams=chunk is str)
    if returns is Completion:
        return GivesCompletion()
    if chunk is not None and _fits(chunk, ModelEvent):
        return GivesEvents()
    return None


def _take(annotation: object) -> Callable[[ChatRequest], object] | None:
    """The part of the request that an input with this annotation can take."""
    if annotation is object or annotation is Any or annotation is MISSING:
        return None  # it may be anything, and nobody has said that it is a conversation
    if _fits(ChatRequest, annotation):
        return _everything
    if _fits(list[Message], annotation):
        return lambda request: list(_plainly(request).messages)
    if _fits(tuple[Message, ...], annotation):
        return lambda request: _plainly(request).messages
    return _question if _fits(str, annotation) else None


def _fits(source: object, target: object) -> bool:
    return source is not Any and compare(source, target) is Fit.MUST


def _everything(request: ChatRequest) -> object:
    return request


def _question(request: ChatRequest) -> object:
    """The text of the last message of a user."""
    users = [each for each in _plainly(request).messages if each.role == "user"]
    if not users:
        raise refused("messages", "none is a user's; the pipeline answers what a user has said")
    for part in users[-1].parts:
        if not isinstance(part, TextPart):
            what = "a file" if isinstance(part, FilePart) else "an image"
            raise refused("messages", f"the last of a user has {what}, {_TEXT_ONLY}")
    if not users[-1].text:
        raise refused("messages", f"the last of a user has no text, {_TEXT_ONLY}")
    return users[-1].text


def _plainly(request: ChatRequest) -> ChatRequest:
    """The request, if its answer is to be plain text: the pipeline gets nothing of the rest.

    How its models sample is the pipeline's own business: options for which it has no input are
    ignored.
    """
    for field, value in (
        ("tools", request.tools and request.tool_choice != "none"),
        ("response_format", request.output),
        ("logprobs", request.logprobs is not None),
    ):
        if value:
            raise _only_models(field)
    return request


def _only_models(field: str) -> InvalidRequestError:
    return refused(
        field,
        "this model is a pipeline that is given the conversation only; leave it out, or let the "
        "pipeline take a `ChatRequest`",
    )


_TEXT_ONLY = (
    "and this model is a pipeline that is given the text of that message only; let it take "
    "`list[Message]` for all that is said"
)
RELAYED: Gives = cast("Gives", GivesRelayed())
