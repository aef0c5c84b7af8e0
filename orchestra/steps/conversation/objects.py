"""A model's answer as a checked value of a class or of another type.

A model that supports schemas is given one; any other is asked for JSON in the prompt. In both
cases, the answer is read in the same way. If it does not fit, it is sent back once, with a list of
everything that is wrong.

Providers require the schema of an object. So a value of another type, such as a list, is asked for
as the only member of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Generic, TypeVar, cast

import attrs
import msgspec

from orchestra.annotations.facts import spell
from orchestra.annotations.places import Place
from orchestra.annotations.reading import Misfit, decoded, read
from orchestra.annotations.records import has_members
from orchestra.annotations.schema_forms import strictly
from orchestra.annotations.schemas import class_schema, parameters_schema
from orchestra.answers import Completion
from orchestra.errors import CapabilityError, DefinitionError, OutputError
from orchestra.graph.source.frames import called_at
from orchestra.policies.requests.extras import refreshed
from orchestra.steps.conversation.talk import Talk
from orchestra.values import (
    JsonOutput,
    Message,
    Part,
    ReasoningPart,
    StopReason,
    TextPart,
    ToolCall,
    ToolResult,
)

T = TypeVar("T")

_MEMBER = "answer"
_FENCE = "```"
_THOUGHT = "</think>"
"""The end of a model's reasoning, if its server does not separate that from the answer."""
_OPENS = re.compile(rf"{_FENCE}[a-zA-Z]{{0,20}}[^\S\n]{{0,20}}\n")  # bounded: a model wrote it
_NAME = re.compile(r"[^a-zA-Z0-9_-]+")


@attrs.frozen
class Form(Generic[T]):
    """A type of which a model gives a value, with its schema."""

    kind: type[T]
    output: JsonOutput
    is_member: bool
    """Whether the value is the member `answer` of an object, and not an object itself."""

    def read(self, text: str) -> tuple[T | None, tuple[Misfit, ...]]:
        """The value read from a text; or None, and everything that does not fit."""
        found = _object_in(text)
        if isinstance(found, Misfit):
            return None, (found,)
        place: Place = ()
        if self.is_member:
            if not isinstance(found, dict) or _MEMBER not in found:
                return None, (Misfit((_MEMBER,), "is missing"),)
            found, place = found[_MEMBER], (_MEMBER,)
        value, misfits = read(self.kind, found, place)
        return cast("T | None", value), misfits

    @property
    def instruction(self) -> str:
        """The instruction for a model that does not support schemas."""
        schema = msgspec.json.encode(self.output.schema).decode()
        return (
            "Answer with one JSON object and nothing else: no explanation before or after it. "
            f"It has to fit this JSON Schema:\n{schema}"
        )


def form_of(kind: type[T]) -> Form[T]:
    """The form of a type.

    Raises:
        DefinitionError: the values of the type have no form in JSON.
    """
    is_member = not has_members(kind)
    try:
        described = (
            strictly(parameters_schema({_MEMBER: kind}, {}, {}))
            if is_member
            else class_schema(kind)
        )
    except Exception as error:
        raise DefinitionError(
            f"{called_at()}: generate(returns={spell(kind)}): a model cannot give a value of it "
            f"({error}); pass a class or another type that has a form in JSON: an attrs class, a "
            "Pydantic model, list[str], bool"
        ) from error
    name = _NAME.sub("_", spell(kind)).strip("_")[:64]
    return Form(kind, JsonOutput(described.schema, name=name, strict=described.strict), is_member)


async def fill(form: Form[T], talk: Talk) -> T:
    """The model's answer as a value, after its tool calls and at most one repair.

    Raises:
        OutputError: the answer still does not fit.
        ModelError: a call failed.
        LimitExceededError: the model has not answered after `tool_rounds_max` rounds.
    """
    if talk.tools:
        talk.add((await _whole(form, talk)).message)
        _tell_without_tools(talk)
        talk.reached.request = talk.request
    answer = await _first(form, talk)
    value, misfits = form.read(answer.text)
    if misfits:
        talk.add(answer.message, Message("user", _complaint(misfits)))
        _bypass_cache(talk)
        answer = await _whole(form, talk)
        value, misfits = form.read(answer.text)
    if misfits:
        raise OutputError(
            f"model {talk.settings.model!r} was asked for {spell(form.kind)} twice, and its answer "
            "does not fit; say more in the prompt, make the type simpler, or name another model:",
            raw=answer.text,
            problems=tuple(map(str, misfits)),
            model=talk.settings.model,
        )
    return cast("T", value)


async def _first(form: Form[T], talk: Talk) -> Completion:
    """The first answer: to the schema or, if the model refuses that, to an instruction in words.

    A model that supports schemas may not support everything in this one.
    """
    plain = talk.request
    if talk.capabilities.json_schema is not False:
        talk.request = attrs.evolve(plain, output=form.output)
        with suppress(CapabilityError):
            return await _whole(form, talk)
    talk.request = attrs.evolve(plain, output=None)
    _instruct(form, talk)
    return await _whole(form, talk)


async def _whole(form: Form[T], talk: Talk) -> Completion:
    """The model's answer, complete.

    Raises:
        OutputError: the answer was cut.
    """
    answer = await talk.answered()
    if answer.stopped.reason is StopReason.LENGTH:
        raise OutputError(
            f"the {spell(form.kind)} of model {talk.settings.model!r} was cut after "
            f"output_tokens_max={talk.request.output_tokens_max} tokens; give it more",
            raw=answer.text,
            model=talk.settings.model,
        )
    return answer


def _bypass_cache(talk: Talk) -> None:
    """Bypass the cache for the repair: a cached answer may not fit either."""
    request = talk.request
    talk.request = attrs.evolve(request, extras=refreshed(request.extras))


def _instruct(form: Form[T], talk: Talk) -> None:
    """Add the instruction; to a user's last message, as some models refuse two in a row."""
    *before, last = talk.request.messages or (Message("user", ()),)
    if last.role != "user":
        before, last = [*before, last], Message("user", ())
    content = (
        f"{last.content}\n\n{form.instruction}"
        if isinstance(last.content, str)
        else (*last.content, TextPart(form.instruction))
    )
    talk.request = attrs.evolve(talk.request, messages=(*before, Message("user", content)))


def _complaint(misfits: tuple[Misfit, ...]) -> str:
    lines = "".join(f"\n- {misfit}" for misfit in misfits)
    return (
        f"That answer does not fit what was asked for:{lines}\n"
        "Give the whole JSON object again, with this corrected, and nothing else."
    )


def _tell_without_tools(talk: Talk) -> None:
    """Turn the conversation into text only: many providers refuse a schema together with tools.

    Tool calls and their results are kept in it as text.
    """
    talk.tools = {}  # if the model calls one nevertheless, it is not run
    messages = map(_in_words, talk.request.messages)
    talk.request = attrs.evolve(
        talk.request, messages=(), tools=(), tool_choice=None, parallel_tool_calls=None
    )
    talk.add(*messages, Message("user", "Now give this answer as one JSON object."))


def _in_words(message: Message) -> Message:
    if isinstance(message.content, str):
        return message
    role = "user" if message.role == "tool" else message.role
    return Message(role, tuple(word for part in message.content for word in _words(part)))


def _words(part: Part) -> Iterator[Part]:
    match part:
        case ToolCall(name=name, arguments=arguments):
            yield TextPart(f"\n[called {name} with {arguments}]\n")
        case ToolResult(name=name, content=content, is_error=is_error):
            yield TextPart(f"[{name} {'failed' if is_error else 'gave'}: {content}]\n")
        case ReasoningPart():
            pass  # its signature is valid only for the original turn
        case _:
            yield part


def _object_in(text: str) -> object:
    """The JSON object in a text: all of it, in a code fence, or from the first brace to the last.

    A `Misfit` if there is none.
    """
    complaint = ""
    for candidate in _candidates(text):
        try:
            found = decoded(candidate)
        except ValueError as error:
            complaint = complaint or str(error)
            continue
        if isinstance(found, dict):
            return found
        complaint = complaint or "this is JSON, but not an object"
    return Misfit((), complaint or "this is not JSON: it is empty")


def _candidates(text: str) -> Iterator[str]:
    text = text.strip()
    if text:
        yield text
    if _THOUGHT in text:
        parts = text.split(_THOUGHT)
        text = next((part for part in reversed(parts) if "{" in part), parts[-1]).strip()
        yield text
    yield from _fenced(text)
    first, last = text.find("{"), text.rfind("}")
    if 0 <= first < last:
        yield text[first : last + 1]


def _fenced(text: str) -> Iterator[str]:
    """The contents of a text's code fences."""
    end = 0
    while (opens := _OPENS.search(text, end)) is not None:
        closes = text.find(_FENCE, opens.end())
        if closes < 0:
            return
        yield text[opens.end() : closes]
        end = closes + len(_FENCE)
