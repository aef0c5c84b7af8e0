"""Talk: a conversation with a model that continues until it has answered.

The theory: each round sends the whole conversation. An answer with tool calls is sent back with
their results; an answer that the provider paused is sent back unchanged. Both count as a round,
and the rounds are bounded. Every other end is the answer, or an error: a cut, refused or
filtered answer never looks complete.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from orchestra.answers import Answer, Completion
from orchestra.errors import (
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    LimitExceededError,
    OutputError,
    TruncatedStreamError,
)
from orchestra.events import StepCut
from orchestra.policies.account import PRESENT
from orchestra.policies.requests.extras import check_words
from orchestra.protocols import Context, Model
from orchestra.steps.conversation.calling import answer_all
from orchestra.steps.conversation.options import Asked, GenerateSettings
from orchestra.steps.conversation.tools import FunctionTool
from orchestra.values import Capabilities, ChatRequest, ForcedTool, Message, StopReason, ToolCall

_CALLS_TOLD_MAX = 3
_CALL_CHARS_MAX = 200
_OURS = (StopReason.END, StopReason.STOP_SEQUENCE, StopReason.TOOL_CALLS, StopReason.PAUSED)
"""Stop reasons of a complete answer, and of one after which the model is asked again."""


def apart(before: str, text: str) -> str:
    """A text after another round's text: with an empty line before it, unless there is a space."""
    joined = before[-1].isspace() or text[0].isspace()
    return text if joined else f"\n\n{text}"


@attrs.define(eq=False)
class Talk:
    """One conversation; `request` is sent in its next round."""

    request: ChatRequest
    settings: GenerateSettings
    context: Context
    tools: Mapping[str, FunctionTool[..., object]]
    rounds: int = 0

    @classmethod
    def of(cls, asked: Asked, settings: GenerateSettings, context: Context) -> Talk:
        """A conversation that begins with this question.

        Raises:
            CapabilityError: it has tools, and the model cannot call tools.
            InvalidRequestError: its extras have fields for our policies that no policy reads.
        """
        tools = {each.told.name: each for each in settings.tools}
        talk = cls(settings.request(asked), settings, context, tools)
        check_words(talk.request.extras)
        if tools and talk.capabilities.tools is False:
            raise CapabilityError(
                f"generate(tools=[{', '.join(tools)}]): the model {settings.model!r} cannot call "
                "tools; name one that can, or leave the tools out",
                model=settings.model,
            )
        return talk

    @property
    def model(self) -> Model:
        """The model of the conversation."""
        return self.context.model(self.settings.model)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the model; the defaults for a fake that has none."""
        return getattr(self.model, "capabilities", None) or Capabilities()

    async def answered(self) -> Completion:
        """The answer, after as many rounds as needed.

        Raises:
            ModelError: a call failed, or as of `goes_on`.
            LimitExceededError: as of `goes_on`.
        """
        while True:  # noqa: ASYNC913 - the rounds are bounded
            heard = await self._heard()
            if not await self.goes_on(heard):
                return heard.completion()

    async def _heard(self) -> Answer:
        answer = Answer()
        try:
            async with self.model.stream(self.request) as reply:
                while batch := await reply.receive():
                    for event in batch:
                        answer.add(event)
        finally:
            self.account(answer)
        return answer

    def account(self, answer: Answer) -> None:
        """Report the usage of a round, however it ended."""
        if answer.usage is not None:  # so a fake context needs no `used` if its model has no usage
            self.context.used(answer.usage)

    async def goes_on(self, answer: Answer) -> bool:
        """Whether another round is needed, with the new `request`.

        Calls the tools that the model asks for. False when it has answered.

        Raises:
            TruncatedStreamError: the round ended without a finish reason.
            ContentFilterError: the model, or its provider, refused.
            ContextLengthError: it was cut at a length that was not requested.
            OutputError: it ended in another way, or calls tools that it was not given.
            LimitExceededError: it needs more than `tool_rounds_max` rounds.
        """
        heard = self._whole(answer)
        calls = heard.tool_calls
        self._refuse_end(heard)
        reason = heard.stopped.reason
        if not calls and reason is not StopReason.PAUSED:
            if reason is StopReason.LENGTH:
                most = self.request.output_tokens_max
                PRESENT.get().record(StepCut, self.settings.model, most)
            return False
        self._refuse_round(heard)
        self.rounds += 1
        self.add(heard.message)
        if calls:
            one_by_one = self.request.parallel_tool_calls is False
            results = await answer_all(
                self.tools,
                calls,
                self.context,
                at_once=1 if one_by_one else self.settings.tools_at_once,
                timeout_s=self.settings.tool_timeout_s,
            )
            self.add(Message("tool", results))
            self._set_free()
        return True

    def said_before(self, answer: Answer, before: str) -> str:
        """The text before the next round's text, from which an empty line separates it.

        Empty after a paused round, which the next round continues.
        """
        heard = answer.completion()
        if heard.stopped.reason is StopReason.PAUSED and heard.text:
            return ""
        return heard.text or before

    def add(self, *messages: Message) -> None:
        """Add messages to the next round; turns without parts are left out."""
        said = tuple(each for each in messages if each.parts)
        self.request = attrs.evolve(self.request, messages=(*self.request.messages, *said))

    def _set_free(self) -> None:
        """Drop a required tool choice after the first call: else the model would never answer."""
        choice = self.request.tool_choice
        if choice == "required" or isinstance(choice, ForcedTool):
            self.request = attrs.evolve(self.request, tool_choice=None)

    def _whole(self, answer: Answer) -> Completion:
        if answer.stopped is None:
            raise TruncatedStreamError(
                f"model {self.settings.model!r} ended its answer without a stop reason: it was cut",
                model=self.settings.model,
            )
        return answer.completion()

    def _refuse_end(self, heard: Completion) -> None:
        """Refuse every end that is neither an answer nor a tool call nor a pause."""
        reason, name = heard.stopped.reason, self.settings.model
        if reason is StopReason.CONTENT_FILTER or heard.refusal:
            why = heard.refusal or f"it stopped for {heard.stopped.raw or reason.value!r}"
            raise ContentFilterError(f"model {name!r} refused to answer: {why}", model=name)
        if reason is StopReason.LENGTH:
            self._refuse_length(heard)
        elif reason not in _OURS or (reason is StopReason.TOOL_CALLS and not heard.tool_calls):
            raise OutputError(
                f"model {name!r} stopped for {heard.stopped.raw or reason.value!r}, which is no "
                "end of an answer; ask again, or another model",
                raw=heard.text,
                model=name,
            )

    def _refuse_length(self, heard: Completion) -> None:
        """Refuse a cut answer, unless the request set the length."""
        most, name = self.request.output_tokens_max, self.settings.model
        if most is None:
            raise ContextLengthError(
                f"model {name!r} stopped at its own limit of length, and the answer is not "
                "complete; ask for less, name a model with more room, or give output_tokens_max "
                "if a cut answer will do",
                model=name,
            )
        if heard.tool_calls:
            raise OutputError(
                f"model {name!r} was cut in a tool call, after output_tokens_max={most} tokens; "
                "give it more",
                raw=heard.text,
                model=name,
            )

    def _refuse_round(self, heard: Completion) -> None:
        """Refuse a round over the bound, or with calls of unknown tools."""
        most, name = self.settings.tool_rounds_max, self.settings.model
        told = _calls_text(heard.tool_calls)
        if heard.tool_calls and not self.tools:
            raise OutputError(
                f"model {name!r} asks for tools, and was given none to call: {told}; pass the "
                "functions, generate(..., tools=[...])",
                raw=heard.text,
                model=name,
            )
        if self.rounds == most:
            raise LimitExceededError(
                f"model {name!r} has not answered after tool_rounds_max={most} rounds; it asks "
                f"for {told or 'its turn back'}; allow more rounds, or say in the prompt when to "
                "stop",
                limit="tool_rounds_max",
            )


def _calls_text(calls: tuple[ToolCall, ...]) -> str:
    told = [f"{call.name}({call.arguments:.{_CALL_CHARS_MAX}})" for call in calls]
    more = [f"{len(calls) - _CALLS_TOLD_MAX} more"] if len(calls) > _CALLS_TOLD_MAX else []
    return ", ".join([*told[:_CALLS_TOLD_MAX], *more])
