"""`relay`: passes on a model's events to a client that uses the model without a pipeline.

Events that arrive together are one chunk: a thousand tokens in one packet pass through the run
once, as a single token does.

Rules of the file: work is done per chunk rather than per event, where possible; a cut answer never
looks complete.
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
class ChoiceEvents:
    """The events of one answer that arrived together; `choice` is the answer's index, from 0."""

    choice: int
    events: tuple[ModelEvent, ...]

    @property
    def window_bytes(self) -> int:
        """The size of the chunk that counts for a reader's window."""
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
) -> AsyncIterator[ChoiceEvents]:
    """A model's answer to a request, as it arrives; each of several `choices` is a separate call.

    A run may raise:
        CapabilityError: the model is known to lack a needed ability.
        InvalidRequestError: the request's extras have unknown settings for orchestra.
        TruncatedStreamError: an answer ended without a finish reason.
        ModelError: a call failed; the others are then cancelled.
    """
    asked = _able(context.model(model), model, request)
    usages, going = list[Usage | None]([None] * choices), set(range(choices))

    def noted(chunk: ChoiceEvents) -> ChoiceEvents:
        for event in chunk.events:
            if type(event) is UsageReport:
                usages[chunk.choice] = event.usage
            elif type(event) is Stopped:
                going.discard(chunk.choice)
        return chunk

    try:
        if choices == 1:
            async with asked.stream(request) as reply:
                while events := await reply.receive():
                    yield noted(ChoiceEvents(0, events))  # noqa: ASYNC119 - the engine closes every generator in its own task
        else:
            async with _several(asked, request, choices) as received:
                while batch := await _ready(received, choices):
                    for chunk in batch:
                        if isinstance(chunk, Exception):
                            raise chunk
                        yield noted(chunk)  # noqa: ASYNC119 - as above
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
        CapabilityError, InvalidRequestError: as for `relay`.
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
    """The vectors of texts; with `embedder`, `model` is an embedder's name instead of a model's.

    A run may raise:
        CapabilityError: the model makes no vectors, or not of the requested length.
        InvalidRequestError: as for `relay`.
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
    """The capabilities without token limits: a request is not refused for its estimated tokens."""
    return attrs.evolve(can, context_tokens=None, output_tokens_max=None)


def _able(asked: Model, name: str, request: ChatRequest) -> Model:
    """The model, checked for the abilities that the request needs.

    Raises:
        CapabilityError: the model is known to lack one.
        InvalidRequestError: as for `check_words`.
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
) -> AsyncIterator[trio.MemoryReceiveChannel[ChoiceEvents | Exception]]:
    """A context with a channel that receives the chunks of several concurrent answers.

    If an answer fails, the channel receives its error. Each call has a task, which waits until its
    chunk has been received.
    """
    sender, receiver = trio.open_memory_channel[ChoiceEvents | Exception](0)
    async with groupless_nursery() as nursery:
        try:
            with sender:
                for choice in range(choices):
                    nursery.start_soon(_send, model, request, choice, sender.clone())
            yield receiver
        finally:
            nursery.cancel_scope.cancel()


async def _send(
    model: Model,
    request: ChatRequest,
    choice: int,
    sender: trio.MemorySendChannel[ChoiceEvents | Exception],
) -> None:
    with sender:
        try:
            async with model.stream(for_choice(request, choice)) as reply:
                while batch := await reply.receive():
                    await sender.send(ChoiceEvents(choice, batch))
        except Exception as error:  # noqa: BLE001 - `relay` raises it
            await sender.send(error)


async def _ready(
    receiver: trio.MemoryReceiveChannel[ChoiceEvents | Exception], choices: int
) -> list[ChoiceEvents | Exception]:
    """Wait for a chunk, and return all chunks that are ready; empty at the end."""
    batch: list[ChoiceEvents | Exception] = []
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while len(batch) < choices:
            batch.append(receiver.receive_nowait() if batch else await receiver.receive())
    return batch
