"""A conversation with a model, which continues until the model has answered.

The theory: each round sends the whole conversation. An answer with tool calls is sent back with
the results of the calls; an answer that the provider paused is sent back unchanged. Each of these
counts as a round, and the rounds are bounded. Every other end is the answer, or an error: a cut,
refused or filtered answer never looks complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import compress
from operator import not_

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
from orchestra.steps.conversation.approvals import (
    closed,
    refusal,
    refuse_misfits,
    stopped,
    with_results,
)
from orchestra.steps.conversation.calling import Progress, answer_all, needs_approval
from orchestra.steps.conversation.claims import run_once
from orchestra.steps.conversation.options import Asked, GenerateSettings
from orchestra.steps.conversation.reached import Reached, reached_before
from orchestra.steps.conversation.tools import FunctionTool
from orchestra.transcripts import ApprovalNeededError, open_calls
from orchestra.values import (
    Capabilities,
    ChatRequest,
    ForcedTool,
    Message,
    Part,
    StopReason,
    ToolCall,
)

_CALLS_SHOWN_MAX = 3
_CALL_CHARS_MAX = 200
_NORMAL = (StopReason.END, StopReason.STOP_SEQUENCE, StopReason.TOOL_CALLS, StopReason.PAUSED)
"""Stop reasons of a complete answer, and of one after which the model is asked again."""


@attrs.define(eq=False)
class Talk:
    """One conversation; `request` is what the next round sends."""

    request: ChatRequest
    settings: GenerateSettings
    context: Context
    tools: Mapping[str, FunctionTool[..., object]]
    reached: Reached
    """What a retry of the step goes on from."""
    answering: Answer | None = None
    """The model's answer, until it is a turn of the conversation."""
    ended: bool = False
    """Whether `answering` is the final answer, and whole."""
    _running: Progress | None = None
    """How far the tool calls are, until their results are in the conversation."""

    @classmethod
    def of(
        cls, asked: Asked, settings: GenerateSettings, context: Context, returns: object = None
    ) -> Talk:
        """A conversation that begins with this question, or goes on from an earlier attempt's.

        Raises:
            CapabilityError: there are tools, and the model is known not to support them.
            InvalidRequestError: the extras have unknown settings for orchestra's policies; or the
                decisions of the settings are not those that the last tool calls need.
        """
        tools = {each.declaration.name: each for each in settings.tools}
        request = settings.request(asked)
        check_words(request.extras)
        refuse_misfits(open_calls(request.messages), settings.approved)
        talk = cls(request, settings, context, tools, Reached(request, settings, returns))
        if tools and talk.capabilities.tools is False:
            raise CapabilityError(
                f"generate(tools=[{', '.join(tools)}]): the model {settings.model!r} cannot call "
                "tools; name one that can, or leave the tools out",
                model=settings.model,
            )
        talk.reached = reached = reached_before(talk.reached, context)
        talk.request, talk._running = reached.request, reached.running
        talk.tools = tools if reached.request.tools else {}
        return talk

    @property
    def model(self) -> Model:
        """The model of the conversation."""
        return self.context.model(self.settings.model)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the model; for a test's fake without any, the defaults."""
        return getattr(self.model, "capabilities", None) or Capabilities()

    async def answered(self) -> Completion:
        """The answer, after as many rounds as needed.

        Raises:
            ModelError: a call failed; or as for `goes_on`.
            LimitExceededError: as for `goes_on`.
        """
        await self.carry_out()
        while True:  # noqa: ASYNC913 - the rounds are bounded
            answer = await self._received()
            if not await self.goes_on(answer):
                return answer.completion()

    async def _received(self) -> Answer:
        answer = Answer()
        try:
            async with self.model.stream(self.request) as reply:
                while batch := await reply.receive():
                    for event in batch:
                        answer.add(event)
        finally:
            self.account(answer)
        return answer

    async def carry_out(self) -> None:
        """Run the calls at the end of the conversation that are approved; refuse the others.

        After an earlier attempt, run the calls of its last round that had not begun.
        """
        if self._running is not None:
            self._close(stopped(self.request.messages, self._running.parts, self._running.begun))
            self._set_free()
        calls = open_calls(self.request.messages)
        if calls and self.reached.rounds:
            await self._run(calls)
        elif calls:
            approved, asked = self.settings.approved, self._transcript
            running = tuple(each for each in calls if approved[each.id] is True)
            refused = (each for each in calls if approved[each.id] is not True)
            self._answer([refusal(each, approved[each.id]) for each in refused])
            self._running = Progress({each.id for each in running})  # maybe by an earlier attempt
            run = partial(self._results, running, self._running)
            self._answer(await run_once(asked, approved, run))
            self._set_free()

    def account(self, answer: Answer) -> None:
        """Report the usage of a round, however it ended."""
        if answer.usage is not None:  # a test's fake context may have no `used`
            self.context.used(answer.usage)

    async def goes_on(self, answer: Answer) -> bool:
        """Run the tools that the answer calls; return whether another round is needed.

        `request` is then that of the next round. False if the answer is final.

        Raises:
            TruncatedStreamError: the round ended without a finish reason.
            ContentFilterError: the model, or its provider, refused to answer.
            ContextLengthError: the answer was cut at a length that was not requested.
            OutputError: the answer ended in another way, or calls tools though there are none.
            LimitExceededError: the model has not answered after `tool_rounds_max` rounds.
            ApprovalNeededError: calls need the approval of a person; the others have run.
        """
        ended = self._whole(answer)
        calls = ended.tool_calls
        self._refuse_end(ended)
        reason = ended.stopped.reason
        if not calls and reason is not StopReason.PAUSED:
            if reason is StopReason.LENGTH:
                most = self.request.output_tokens_max
                PRESENT.get().record(StepCut, self.settings.model, most)
            return False
        self._refuse_round(ended)
        self.answering = None
        self.add(ended.message)
        self.reached.add(ended)
        self._keep()
        if calls:
            await self._run(calls)
        return True

    async def _run(self, calls: tuple[ToolCall, ...]) -> None:
        """Run the calls of a round, and add their results."""
        asks = [needs_approval(self.tools, each) for each in calls]
        self._running = Progress()
        self._keep()
        running = tuple(compress(calls, map(not_, asks)))
        self._answer(await self._results(running, self._running))
        if not any(asks):
            self._set_free()
        self._keep()
        if any(asks):
            raise ApprovalNeededError(self._transcript, tuple(compress(calls, asks)))

    def _keep(self) -> None:
        """Note that a retry may go on from here; the rounds for an object are asked again."""
        if self.tools or self.reached.returns is None:
            self.reached.request, self.reached.running = self.request, self._running

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, as `orchestra.transcripts.Reply` has it."""
        said, running = self._transcript, self._running
        if running is not None:
            said = closed(stopped(said, running.parts, running.begun))
        answer = self.answering
        if answer is not None and (self.ended or answer.text):
            last = answer.completion().message if self.ended else Message("assistant", answer.text)
            return (*said, last) if last.parts else said
        return said

    @property
    def _transcript(self) -> tuple[Message, ...]:
        """The conversation so far, without the prompt of the setting `system`."""
        return self.request.messages[0 if self.settings.system is None else 1 :]

    async def _results(self, calls: tuple[ToolCall, ...], progress: Progress) -> tuple[Part, ...]:
        """Run these calls."""
        one_by_one = self.request.parallel_tool_calls is False
        return await answer_all(
            self.tools,
            calls,
            self.context,
            progress,
            at_once=1 if one_by_one else self.settings.tools_at_once,
            timeout_s=self.settings.tool_timeout_s,
        )

    def _answer(self, parts: Sequence[Part]) -> None:
        """Add results of the model's last turn."""
        self._close(with_results(self.request.messages, parts))

    def _close(self, messages: tuple[Message, ...]) -> None:
        self.request, self._running = attrs.evolve(self.request, messages=messages), None

    def add(self, *messages: Message) -> None:
        """Add messages to the next round's request; messages without parts are left out."""
        added = tuple(each for each in messages if each.parts)
        self.request = attrs.evolve(self.request, messages=(*self.request.messages, *added))

    def _set_free(self) -> None:
        """Drop a required tool choice after the first calls, or the model would never answer."""
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

    def _refuse_end(self, answer: Completion) -> None:
        """Refuse every end that is neither a final answer nor a tool call nor a pause."""
        reason, name = answer.stopped.reason, self.settings.model
        if reason is StopReason.CONTENT_FILTER or answer.refusal:
            why = answer.refusal or f"it stopped for {answer.stopped.raw or reason.value!r}"
            raise ContentFilterError(f"model {name!r} refused to answer: {why}", model=name)
        if reason is StopReason.LENGTH:
            self._refuse_length(answer)
        elif reason not in _NORMAL or (reason is StopReason.TOOL_CALLS and not answer.tool_calls):
            raise OutputError(
                f"model {name!r} stopped for {answer.stopped.raw or reason.value!r}, which is not "
                "the end of an answer; ask again, or another model",
                raw=answer.text,
                model=name,
            )

    def _refuse_length(self, answer: Completion) -> None:
        """Refuse a cut answer, unless the request bounded the length."""
        most, name = self.request.output_tokens_max, self.settings.model
        if most is None:
            raise ContextLengthError(
                f"model {name!r} stopped at its own output limit, and the answer is not "
                "complete; ask for less, name a model with a higher limit, or give "
                "output_tokens_max if a cut answer is acceptable",
                model=name,
            )
        if answer.tool_calls:
            raise OutputError(
                f"model {name!r} was cut in a tool call, after output_tokens_max={most} tokens; "
                "give it more",
                raw=answer.text,
                model=name,
            )

    def _refuse_round(self, answer: Completion) -> None:
        """Refuse another round if it exceeds the bound, or has tool calls but no tools."""
        most, name = self.settings.tool_rounds_max, self.settings.model
        calls = _calls_text(answer.tool_calls)
        if answer.tool_calls and not self.tools:
            raise OutputError(
                f"model {name!r} calls tools, but was given none: {calls}; pass the functions, "
                "generate(..., tools=[...])",
                raw=answer.text,
                model=name,
            )
        if self.reached.rounds == most:
            raise LimitExceededError(
                f"model {name!r} has not answered after tool_rounds_max={most} rounds; it asks "
                f"for {calls or 'another turn'}; allow more rounds, or say in the prompt when to "
                "stop",
                limit="tool_rounds_max",
            )


def _calls_text(calls: tuple[ToolCall, ...]) -> str:
    shown = [f"{call.name}({call.arguments:.{_CALL_CHARS_MAX}})" for call in calls]
    more = [f"{len(calls) - _CALLS_SHOWN_MAX} more"] if len(calls) > _CALLS_SHOWN_MAX else []
    return ", ".join([*shown[:_CALLS_SHOWN_MAX], *more])
