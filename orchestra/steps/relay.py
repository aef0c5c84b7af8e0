"""`relay`: passes on a model's events to a client that uses the model without a pipeline.

Events that arrive together are one chunk: one token costs one trip through the run, and so do
a thousand that came in one packet. Rules of the file: work is done per chunk, not per event, if
possible; and a cut answer never looks complete.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import lru_cache

import attrs
import trio

from orchestra.accounts import Usage
from orchestra.answers import Completion
from orchestra.errors import CapabilityError, TruncatedStreamError
from orchestra.graph.steps import step
from orchestra.groups import groupless_nursery, in_order
from orchestra.policies.answers.sizes import held_bytes
from orchestra.policies.requests.extras import check_words, for_choice
from orchestra.policies.requests.needs import lacks, needs_of
from orchestra.protocols import Context, Model, injected
from orchestra.values import (
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ModelEvent,
    Stopped,
    TextDelta,
    UsageReport,
)

_EVENT_BYTES = 64
_FIELDS = {
    "vision": "messages=... with an image",
    "files": "messages=... with a file",
    "json_schema": "output=...",
    "reasoning": "reasoning_effort=...",
    "tools": "tools=...",
}


@attrs.frozen
class Said:
    """Events of one answer that arrived together; `choice` is the answer's index, from 0."""

    choice: int
    events: tuple[ModelEvent, ...]

    @property
    def window_bytes(self) -> int:
        """The size of the chunk in a reader's window."""
        size = _EVENT_BYTES * len(self.events)
        for event in self.events:
            if type(event) is TextDelta:  # nearly all of them
                size += len(event.text)
            else:
                size += held_bytes(event)
        return size


@step
async def relay(
    request: ChatRequest, *, model: str, choices: int, context: Context = injected
) -> AsyncIterator[Said]:
    """A model's answer to a request, as it arrives; each of several `choices` is a separate call.

    A run may raise:
        CapabilityError: the model is known to lack a needed ability.
        TruncatedStreamError: an answer ended without a finish reason.
        ModelError: a call failed; the others are then abandoned.
    """
    asked = _able(context.model(model), model, request)
    usages, going = list[Usage | None]([None] * choices), set(range(choices))

    def noted(said: Said) -> Said:
        for event in said.events:
            if type(event) is UsageReport:
                usages[said.choice] = event.usage
            elif type(event) is Stopped:
                going.discard(said.choice)
        return said

    try:
        if choices == 1:
            async with asked.stream(request) as reply:
                while events := await reply.receive():
                    yield noted(Said(0, events))  # noqa: ASYNC119 - the engine closes every generator in its own task
        else:
            async with _several(asked, request, choices) as heard:
                while batch := await _ready(heard, choices):
                    for said in batch:
                        if isinstance(said, Exception):
                            raise said
                        yield noted(said)  # noqa: ASYNC119 - as above
    finally:
        for usage in usages:
            context.used(usage)
    if going:
        raise TruncatedStreamError(
            f"model {model!r} ended its answer without a stop reason: it was cut", model=model
        )


@step
async def relay_whole(
    request: ChatRequest, *, model: str, choices: int, context: Context = injected
) -> list[Completion]:
    """A model's complete answers to a request, each from a call of its own.

    A run may raise:
        CapabilityError: as of `relay`.
        ModelError: a call failed; the others are then cancelled.
    """
    asked = _able(context.model(model), model, request)

    async def ask(choice: int) -> Completion:
        answer = await asked.complete(for_choice(request, choice))
        context.used(answer.usage)
        return answer

    return [await ask(0)] if choices == 1 else await in_order(ask, range(choices), choices)


@step
async def relay_vectors(
    request: EmbedRequest, *, model: str, embedder: bool, context: Context = injected
) -> Embeddings:
    """The vectors of texts, from the embedder of this name, or from the model.

    A run may raise:
        CapabilityError: it makes no vectors, or not of this length.
        ModelError: a call failed.
    """
    check_words(request.extras)
    if not embedder:
        found = await context.model(model).embed(request)
        context.used(found.usage)
        return found
    asked, wanted = context.embedder(model), request.dimensions
    if wanted is not None and wanted != asked.dimensions:
        raise CapabilityError(
            f"dimensions={wanted} cannot be sent to {model!r}, whose vectors have "
            f"{asked.dimensions} numbers; leave it out",
            model=model,
        )
    return Embeddings(tuple(await asked.embed(request.texts, purpose=request.purpose)))


@lru_cache(maxsize=256)
def _certain(can: Capabilities) -> Capabilities:
    """The capabilities without token counts: they are estimates of a request, and refuse none."""
    return attrs.evolve(can, context_tokens=None, output_tokens_max=None)


def _able(asked: Model, name: str, request: ChatRequest) -> Model:
    """The model, checked for the abilities that the request needs.

    Raises:
        CapabilityError: it is known to lack one.
        InvalidRequestError: as of `check_words`.
    """
    check_words(request.extras)
    can = getattr(asked, "capabilities", None) or Capabilities()
    lacking = lacks(needs_of(request), _certain(can))
    if lacking:
        what = _FIELDS[lacking[0].removeprefix("no ")]
        raise CapabilityError(
            f"{what} cannot be sent to the model {name!r}, which has {', '.join(lacking)}; "
            "leave it out, or ask another model",
            model=name,
        )
    return asked


@asynccontextmanager
async def _several(
    model: Model, request: ChatRequest, choices: int
) -> AsyncIterator[trio.MemoryReceiveChannel[Said | Exception]]:
    """A context with what several concurrent answers say; a failed one says its error.

    Each call has a task, which waits until its events have been taken.
    """
    says, heard = trio.open_memory_channel[Said | Exception](0)
    async with groupless_nursery() as nursery:
        try:
            with says:
                for choice in range(choices):
                    nursery.start_soon(_listen, model, request, choice, says.clone())
            yield heard
        finally:
            nursery.cancel_scope.cancel()


async def _listen(
    model: Model,
    request: ChatRequest,
    choice: int,
    says: trio.MemorySendChannel[Said | Exception],
) -> None:
    with says:
        try:
            async with model.stream(for_choice(request, choice)) as reply:
                while batch := await reply.receive():
                    await says.send(Said(choice, batch))
        except Exception as error:  # noqa: BLE001 - `relay` raises it
            await says.send(error)


async def _ready(
    heard: trio.MemoryReceiveChannel[Said | Exception], choices: int
) -> list[Said | Exception]:
    """Wait for something, and return what is there; empty at the end."""
    batch: list[Said | Exception] = []
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while len(batch) < choices:
            batch.append(heard.receive_nowait() if batch else await heard.receive())
    return batch
