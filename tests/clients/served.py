"""A server of ours as a process, with the models of a configuration and pipelines to speak with.

`python -m tests.clients.served orchestra.toml` prints its URL and serves until a signal.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

from orchestra.config.defaults import default_bindings
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.steps import step
from orchestra.protocols import Context, Stream, injected
from orchestra.server.processes.serve import serve
from orchestra.server.settings import Settings, arguments_of
from orchestra.steps.generate import generate
from orchestra.values import ChatRequest, Message, ReasoningEffort


@step
async def counted(messages: list[Message]) -> AsyncIterator[str]:
    yield f"{len(messages)} messages, "
    yield f"the last of {messages[-1].role}"


@pipeline
def shout(question: str) -> Stream[str]:
    """What the model says."""
    return generate(question, model="gpt-4o")


async def weather(city: str, *, context: Context = injected) -> str:
    """The weather."""
    context.tell("place", {"city": city})
    return f"sunny in {city}"


@pipeline
def followed(question: str) -> Stream[str]:
    """What the model says when it has called a function."""
    return generate(question, model="gpt-4o", tools=[weather])


@pipeline
def heard(
    question: str,
    temperature: float = 1.0,
    output_tokens_max: int | None = None,
    stop: Sequence[str] = (),
    reasoning_effort: ReasoningEffort | None = None,
) -> Stream[str]:
    """What the model says, as its client wants it."""
    return generate(
        question,
        model="thinking",
        temperature=temperature,
        output_tokens_max=output_tokens_max,
        stop=stop,
        reasoning_effort=reasoning_effort,
    )


@pipeline
def history(messages: list[Message]) -> Stream[str]:
    """How long the conversation is."""
    return counted(messages)


@pipeline
def everything(request: ChatRequest) -> Stream[str]:
    """All that was asked, asked again."""
    return generate(request, model="gpt-4o")


if __name__ == "__main__":
    pipelines: dict[str, Pipeline[..., Any]] = {
        "shout": shout,
        "followed": followed,
        "heard": heard,
        "history": history,
        "everything": everything,
    }
    with default_bindings(Path(sys.argv[1]).parent, config=Path(sys.argv[1])) as bindings:
        settings = Settings(**arguments_of(bindings.rules))
        told = partial(print, flush=True)
        trio.run(partial(serve, pipelines, bindings, port=0, settings=settings, on_ready=told))
