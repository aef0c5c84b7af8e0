"""`generate`: a model's answer as a stream of text or, with `returns`, as a value of a type."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from types import UnionType
from typing import Any, TypeAlias, TypeVar, Unpack, _SpecialForm, cast, overload

import attrs

from orchestra.annotations.deferred import annotate
from orchestra.answers import Answer
from orchestra.citations import Cited
from orchestra.errors import DefinitionError
from orchestra.graph.definition import in_definition
from orchestra.graph.rules.policy import Policy
from orchestra.graph.source.frames import called_at
from orchestra.graph.steps import Kind, Step, step
from orchestra.protocols import Context, Stream, injected
from orchestra.steps.conversation.citing import Citing
from orchestra.steps.conversation.objects import fill, form_of
from orchestra.steps.conversation.options import (
    Asked,
    GenerateSettings,
    Options,
    check_bounds,
    check_extras,
    spelled_out,
)
from orchestra.steps.conversation.reached import apart
from orchestra.steps.conversation.reasoning import tell_reasoning
from orchestra.steps.conversation.talk import Talk
from orchestra.steps.conversation.tool_wires import tools_with_wires
from orchestra.steps.conversation.tools import as_tools
from orchestra.transcripts import Reply
from orchestra.values import TextDelta

T = TypeVar("T")
Special: TypeAlias = "_SpecialForm | UnionType"
"""A `Literal[...]` or a union, which type checkers do not count as a `type`."""


def _say(
    asked: Asked,
    *,
    returns: None = None,
    context: Context = injected,
    **options: Unpack[Options],
) -> AsyncGenerator[str, None]:
    """The text of every round, in chunks.

    `returns` is a parameter only so that errors can suggest it for a misspelt keyword.
    """
    del returns
    return _chunks(Talk.of(asked, _settings(options), context))


async def _chunks(talk: Talk) -> AsyncGenerator[str, None]:
    citing = Citing(talk.context, len(talk.reached.text)) if talk.settings.citations else None
    if said := talk.reached.text:  # in an earlier attempt
        yield said
    await talk.carry_out()
    goes_on, before = True, talk.reached.before  # `before`: the text of earlier rounds
    while goes_on:
        answer = talk.answering = Answer()
        if citing is not None:
            citing.round_chars = 0
        try:
            async with talk.model.stream(talk.request) as reply:
                while batch := await reply.receive():
                    for event in batch:  # all of them first: the reader may leave at any `yield`
                        answer.add(event)
                    if talk.settings.reasoning:
                        tell_reasoning(talk.context, batch)
                    for event in batch:
                        if isinstance(event, TextDelta):
                            text = event.text
                            if before and text:
                                text, before = apart(before, text), ""
                            if citing is not None:
                                citing.note(event.text, text)
                            yield text  # noqa: ASYNC119 - the engine closes every generator in its own task
                        elif citing is not None and isinstance(event, Cited):
                            citing.tell(event)
        finally:
            talk.account(answer)
        goes_on = await talk.goes_on(answer)
        before = talk.reached.before
    talk.ended = True


async def _fill(
    asked: Asked, *, returns: Any, context: Context = injected, **options: Unpack[Options]
) -> object:
    """The answer as a value of the type `returns`."""
    return await fill(form_of(returns), Talk.of(asked, _settings(options), context, returns))


def _settings(options: Options) -> GenerateSettings:
    options["tools"] = as_tools(options.get("tools", ()))
    return GenerateSettings(**cast("Any", options))


_SAY = attrs.evolve(  # by its function alone, it would be a plain step
    step(name="generate")(spelled_out(_say, AsyncIterator[str])), kind=Kind.STREAM
)
_FILL = step(name="generate")(spelled_out(_fill, object))


@attrs.frozen(eq=False)
class Generate:
    """A model's answer: its text as a stream or, with `returns`, a value of that type.

        generate(asked)                                 Stream[str]
        generate(asked, returns=Invoice)                Invoice
        generate(asked, returns=list[Invoice])          list[Invoice]
        generate(asked, returns=Literal["yes", "no"])   Any, for a type checker

    The keywords are those of `orchestra.steps.conversation.options.Options`.

    With `tools`, the model may call typed Python functions, also with values of the run:
    `tools=[partial(orders, user=user)]`. A pipeline can be a tool, too. The model is asked again
    with the results until it answers, at most `tool_rounds_max` times. The stream has the text of
    every round, as the model wrote it, with an empty line between rounds. At most `tools_at_once`
    calls run at the same time. If arguments are wrong, or a tool fails or exceeds
    `tool_timeout_s`, the model reads that as the result. The usage of every round is added to the
    account. Under a `Retry`, a failed call of the model is made again with the results so far: no
    call of a tool is made twice.

    A call of a tool with `needs_approval` ends the step with an `ApprovalNeededError`; `approved`
    has the decisions for a conversation that ends with such calls, and a call that is approved runs
    as any other does. Each call without a result needs a decision, before the model is asked.

    With `citations`, the run has an event `step.told` for each citation of the answer, and with
    `reasoning` for each piece of the model's reasoning; the stream contains only the text.

    With `returns`, the model is given the JSON Schema of an attrs class, a dataclass or a
    TypedDict; or, for any other type that has a form in JSON, that of an object whose only member
    is `answer`. A model without support for schemas (`capabilities.json_schema` is False) is asked
    for JSON in the prompt. An answer that does not fit is sent back once, with a list of what is
    wrong. Tools are called first; then the object is requested, in a call of its own.

    A cut answer never looks complete. With `output_tokens_max`, the cut was requested: the text
    ends there, and a `StepCut` event says so; for a cut object, an `OutputError` is raised. If a
    model stops at its own limit, a `ContextLengthError` is raised. If the reader stops early, the
    model's stream is closed at once and the tools are cancelled.

    A run may raise:
        TruncatedStreamError: a stream ended without a finish reason.
        ContentFilterError: the model, or its provider, refused to answer.
        ContextLengthError: the answer was cut at a length that was not requested.
        OutputError: the object does not fit; or the answer ended for an unknown reason.
        ApprovalNeededError: the model calls a tool that needs approval.
        InvalidRequestError: the conversation has calls without a decision, or `approved` has a
            decision without a call.
        LimitExceededError: the model has not answered after `tool_rounds_max` rounds.
        ModelError: a call failed.
    """

    say: Step[..., Stream[str]] = _SAY
    fill: Step[..., Any] = _FILL

    @overload
    def __call__(self, asked: Asked, *, returns: type[T], **options: Unpack[Options]) -> T: ...
    @overload
    def __call__(
        self, asked: Asked, *, returns: None = None, **options: Unpack[Options]
    ) -> Stream[str]: ...
    @overload
    def __call__(self, asked: Asked, *, returns: Special, **options: Unpack[Options]) -> Any: ...
    def __call__(self, *args: Any, returns: Any = None, **options: Any) -> Any:
        """Add a node to the pipeline that is being defined.

        Raises:
            DefinitionError: `generate` is called outside a pipeline; a tool or `returns` has no
                form in JSON; or a bound is not a number.
        """
        check_bounds(cast("Options", options))
        check_extras(cast("Options", options))
        if "tools" in options:
            options["tools"] = tools_with_wires(options["tools"])
        if returns is None:
            return self.say(*args, **options)
        form_of(returns)
        return _returning(self.fill, returns)(*args, returns=returns, **options)

    def using(self, policy: Policy | None) -> Generate:
        """The same step under another policy; None means a policy without limits.

        Raises:
            DefinitionError: `policy` is not a policy.
        """
        return Generate(self.say.using(policy), self.fill.using(policy))

    @property
    def name(self) -> str:
        """The name of the step in a graph."""
        return self.say.name

    @property
    def returns(self) -> object:
        """The annotation of the result without `returns`."""
        return self.say.returns

    @overload
    def call(
        self, asked: Asked, *, returns: type[T], context: Context, **options: Unpack[Options]
    ) -> Awaitable[T]: ...
    @overload
    def call(
        self, asked: Asked, *, returns: None = None, context: Context, **options: Unpack[Options]
    ) -> Reply: ...
    @overload
    def call(
        self, asked: Asked, *, returns: Special, context: Context, **options: Unpack[Options]
    ) -> Awaitable[Any]: ...
    def call(self, *args: Any, returns: Any = None, **options: Any) -> Any:
        """Call the function itself, for a loop in your own step, whose `context` you pass.

        Returns a `Reply`, an async iterator of the text that also has the conversation with all
        tool calls; or, with `returns`, a value to await.

        Raises:
            DefinitionError: a `policy` is given, which would have no effect; a bound is not a
                number; or it is called in a pipeline, and not in a step.
        """
        if in_definition():
            raise DefinitionError(
                f"{called_at()}: generate.call(...) is for the code of a step; in a pipeline, call "
                "the step itself: generate(...)"
            )
        check_bounds(cast("Options", options))
        if options.get("policy") is not None:
            raise DefinitionError(
                "generate.call(policy=...): only the engine applies a policy, around a step; give "
                "it to your own step, or write `with trio.fail_after(...):` around this call"
            )
        if returns is None:
            return _reply(*args, **options)
        return self.fill.call(*args, returns=returns, **options)


def _reply(asked: Asked, *, context: Context = injected, **options: Unpack[Options]) -> Reply:
    talk = Talk.of(asked, _settings(options), context)
    return Reply(_chunks(talk), lambda: talk.messages)


def _returning(filling: Step[..., Any], kind: object) -> Step[..., Any]:
    """The step, annotated to return this type."""

    async def call(**given: Any) -> Any:
        return await filling.call(**given)

    call.__signature__ = filling.signature  # type: ignore[attr-defined]
    annotate(call, {**filling.call.__annotations__, "return": kind})
    return attrs.evolve(filling, call=call)


generate = Generate()
