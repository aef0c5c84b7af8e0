"""A run as a stream of events in a provider's format.

The response's head is sent with the first content, so that an earlier failure can be an HTTP error,
for which clients raise their usual exception and may retry. If there is no content within the
interval of a heartbeat, the stream starts anyway.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import trio

from orchestra.accounts import Usage
from orchestra.codecs.openai.usage import usage_record
from orchestra.errors import RunError, TruncatedStreamError
from orchestra.events import (
    TERMINAL,
    ArmRestarted,
    Delta,
    Event,
    RunFinished,
    Snapshot,
    StepRouted,
)
from orchestra.providers.opening import says
from orchestra.server import sse
from orchestra.server.runs.event_streams import Events

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.server.connections.bodies import Body
    from orchestra.server.inputs.chat_shapes import GivesAnswers
    from orchestra.server.settings import Settings
    from orchestra.values import Json, ModelEvent

RUN_ID, MODEL = "x-orchestra-run-id", "x-orchestra-model"
COST, FIRST = "x-orchestra-cost-nanodollars", "x-orchestra-time-to-first-token-ms"


class Facts(msgspec.Struct, eq=False):
    """Facts about a run besides its answer: its id, its model, and when its first content came.

    `model` is the requested name, until the run is routed to a model. `record` converts usage into
    the format of a dialect.
    """

    run_id: str
    model: str
    record: Callable[[Usage], Json] = usage_record
    first_s: float | None = None
    """When the first content came, in seconds since the start of the run."""

    def headers(self, cost_nanodollars: int | None = None) -> dict[str, str]:
        """The facts that are known, as headers."""
        found = {RUN_ID: self.run_id, MODEL: self.model}
        if cost_nanodollars is not None:
            found[COST] = str(cost_nanodollars)
        if self.first_s is not None:
            found[FIRST] = f"{self.first_s * 1000:.1f}"
        return found

    def usage(self, end: RunFinished) -> dict[str, Any]:
        """The usage record of an answer, with the facts in an additional field, `orchestra`."""
        counted = end.usage or Usage()
        return {
            **self.record(counted),
            "orchestra": {
                "run_id": self.run_id,
                "model": self.model,
                "cost_nanodollars": counted.cost_nanodollars,
                "time_to_first_token_s": self.first_s,
                "usage_by_model": end.usage_by_model,
            },
        }


class Writer(Protocol):
    """A writer of a model's events in a dialect, such as `AnswerWriter`."""

    def write(self, events: Iterable[ModelEvent], choice: int = 0) -> bytes:
        """The bytes for these events of the answer number `choice`."""

    def close(self, usage: Json | None = None) -> bytes:
        """The bytes of the end.

        Raises:
            TruncatedStreamError: no stop reason was written.
        """

    def failed(self, error: BaseException) -> bytes:
        """The bytes of an error, in place of the end."""


class Chunks(msgspec.Struct, eq=False):
    """Converts the events of a run into the chunks of a dialect, batch by batch."""

    _run: Run
    _gives: GivesAnswers
    _writer: Writer
    facts: Facts
    ended: bool = False
    """Whether the last chunk, or an error in its place, was written."""
    failure: BaseException | None = None
    result: RunFinished | None = None
    """The last event of the run, if the run has finished and its end was written."""
    _written: int = 0
    _restarts: int = 0

    @property
    def begun(self) -> bool:
        """Whether content has been written."""
        return self.facts.first_s is not None

    def of(self, batch: tuple[Event, ...]) -> bytes:
        """The bytes for these events; b"" if there is nothing for the client in them."""
        pieces = []
        for event in batch:
            if self.ended:
                break
            if type(event) is Delta:
                pieces.append(self._chunk(event.chunk, event.at_s))
            else:
                pieces.append(self._other(event))
        return b"".join(pieces)

    def _chunk(self, chunk: object, at_s: float) -> bytes:
        choice, events = self._gives.of_chunk(chunk)
        self._written += len(chunk) if isinstance(chunk, str) else 1
        if self.facts.first_s is None and any(map(says, events)):
            self.facts.first_s = at_s
        return self._writer.write(events, choice)

    def _other(self, event: Event) -> bytes:
        match event:
            case StepRouted(model=model):
                self.facts.model = model
            case Snapshot(output=output, restarts=restarts):
                void = restarts > self._restarts
                self._restarts = restarts
                return self._begun_anew() if void and self.begun else self._caught_up(output)
            case ArmRestarted():
                self._restarts += 1
                return self._begun_anew()
            case RunFinished():
                return self._finished(event)
            case _ if isinstance(event, TERMINAL):
                return self._failed(self._run.error or RunError("the run gave no result"))
        return b""

    def _begun_anew(self) -> bytes:
        """Handle a restart of the output: it ends the stream if content was written."""
        self._written = 0
        if not self.begun:
            return b""
        self._run.cancel("its output restarted, but part of it was sent to the client already")
        return self._failed(
            RunError(
                "the answer has restarted, and a stream cannot take back what it has sent; send "
                "the request without `stream`"
            )
        )

    def _caught_up(self, output: Any) -> bytes:
        """The bytes for the part of an output (text, or a list of chunks) that is not written."""
        rest = output[self._written :]
        chunks = [rest] if isinstance(rest, str) else rest
        return b"".join(self._chunk(chunk, self._run.journal.now_s()) for chunk in chunks)

    def _finished(self, event: RunFinished) -> bytes:
        last = self._writer.write(self._gives.ending(event))
        if self.facts.first_s is None:
            self.facts.first_s = event.at_s
        try:
            last += self._writer.close(self.facts.usage(event))
        except TruncatedStreamError as error:
            return last + self._failed(error)
        self.ended, self.result = True, event
        return last

    def _failed(self, error: BaseException) -> bytes:
        self.ended, self.failure = True, error
        return self._writer.failed(error)


class ChunkEvents(Events):
    """Writes a run's chunks to one client: call `open` first, then `write`.

    `keep` stores the answer. It is called before the end is written, so that the client can refer
    to the stored answer as soon as it has read the end.
    """

    __slots__ = ("_chunks", "_ending", "_keep", "_opening", "heartbeat")

    def __init__(
        self,
        run: Run,
        settings: Settings,
        chunks: Chunks,
        keep: Callable[[RunFinished], Awaitable[None]] | None = None,
        heartbeat: bytes = sse.HEARTBEAT,
    ) -> None:
        super().__init__(run, settings)
        self.heartbeat = heartbeat
        self._chunks = chunks
        self._keep = keep
        self._opening = self._ending = b""

    async def open(self) -> BaseException | None:
        """Wait up to `heartbeat_s` for the first content; returns an error that came before it."""
        chunks = self._chunks
        pieces: list[bytes] = []
        self._reader.awaits_content = True  # the start of a step is nothing to the client
        with trio.move_on_after(self._heartbeat_s):
            while not chunks.begun and not chunks.ended:
                batch = await self._reader.after(self._seq)
                pieces.append(self._frames(batch))
        self._reader.awaits_content = False
        if batch := self._run.journal.newer(self._seq):  # they have woken nobody
            pieces.append(self._frames(batch))
        if chunks.failure is not None and not chunks.begun:
            self._run.journal.detach(self._reader)
            return chunks.failure
        self._opening = b"".join(pieces)
        return None

    async def write(self, body: Body) -> None:
        """Send the chunks as they arrive, with heartbeats in between."""
        opening, self._opening = self._opening, b""
        await body(opening)
        del opening
        await super().write(body)
        if self._keep is not None and self._chunks.result is not None:
            await self._keep(self._chunks.result)
            await body(self._ending)

    def _frames(self, batch: tuple[Event, ...]) -> bytes:
        self._seq = batch[-1].seq
        frames = self._chunks.of(batch)
        if self._keep is not None and self._chunks.result is not None and not self._ending:
            self._ending, frames = frames, b""
        return frames
