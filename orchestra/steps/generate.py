"""`generate`: a model's answer, as it is said."""

from __future__ import annotations

from collections.abc import AsyncIterator

from orchestra.errors import TruncatedStreamError
from orchestra.graph.policy import Policy
from orchestra.graph.steps import step
from orchestra.protocols import Context, ModelName, injected
from orchestra.values import ChatRequest, Message, Stopped, TextDelta, Usage, UsageReport


@step
async def generate(
    asked: str | Message | list[Message] | ChatRequest,
    *,
    model: ModelName = "default",
    policy: Policy | None = None,
    context: Context = injected,
) -> AsyncIterator[str]:
    """The text of a model's answer, piece by piece; what it consumed goes into the account.

    Stopped early, it closes the model's stream at once.

    Raises:
        TruncatedStreamError: the stream ended without a finish reason.
        ModelError: the call failed.
    """
    del policy  # the compiler has read it: it is about the call, not in it
    usage: Usage | None = None
    stopped = False
    try:
        async with context.model(model).stream(_request(asked)) as reply:
            while batch := await reply.receive():
                for event in batch:
                    if isinstance(event, TextDelta):
                        yield event.text  # noqa: ASYNC119 - the engine closes every generator in its own task
                    elif isinstance(event, UsageReport):
                        usage = event.usage
                    elif isinstance(event, Stopped):
                        stopped = True
    finally:
        if usage is not None:
            context.used(usage)
    if not stopped:
        raise TruncatedStreamError(
            f"model {model!r} ended its answer without saying why: it was cut"
        )


def _request(asked: str | Message | list[Message] | ChatRequest) -> ChatRequest:
    """What was asked, as a request."""
    if isinstance(asked, ChatRequest):
        return asked
    if isinstance(asked, str):
        asked = Message("user", asked)
    return ChatRequest((asked,) if isinstance(asked, Message) else tuple(asked))
