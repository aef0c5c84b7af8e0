"""What ours serves of a relay: one step that asks the model and says what it says."""

from __future__ import annotations

from orchestra import Context, Stream, injected, pipeline, step
from orchestra.steps import generate
from orchestra.values import ChatRequest, Message, TextPart


@step
async def ask(question: str, *, context: Context = injected) -> str:
    """The answer in one piece."""
    asked = ChatRequest((Message("user", (TextPart(question),)),))
    return (await context.model("fast").complete(asked)).text


@pipeline
def relay(question: str) -> Stream[str]:
    """The model's tokens."""
    return generate(question, model="fast", output_tokens_max=4000)


@pipeline
def whole(question: str) -> str:
    """The model's answer."""
    return ask(question)
