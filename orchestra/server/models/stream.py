"""A run as a stream of a provider's events.

The head waits for the first thing that is said, so that what fails before it is an HTTP error, on
which a client raises its own exception and may try again. Where nothing comes for as long as a
heartbeat, the stream begins without it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

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
from orchestra.server.runs.pipelines import Events

if TYPE_CHECKING:
    from orchestra.engine.run import Run
    from orchestra.server.connections.bodies import Body
    from orchestra.server.runs.chat_shapes import Gives
    from orchestra.server.settings import Settings
    from orchestra.values import Json, ModelEvent

RUN_ID, MODEL = "x-orchestra-run-id", "x-orchestra-model"
COST, FIRST = "x-orchestra-cost-nanodollars", "x-orchestra-time-to-first-token-ms"


class Facts:
    """What is known of a run beside its answer; `model` is the name that was asked for.

    `record` writes what was counted, in a dialect.
    """

    __slots__ = ("_record", "first_s", "model", "run_id")

    def __init__(
        self, run_id: str, model: str, record: Callable[[Usage], Json] = usage_record
    ) -> None:
        self._record = record
        self.run_id = run_id
        self.model = model
        self.first_s: float | None = None
        """When the first content came, in seconds since the run began."""

    def headers(self, cost_nanodollars: int | None = None) -> dict[str, str]:
        """As headers, as far as they are known."""
        found = {RUN_ID: self.run_id, MODEL: self.model}
        if cost_nanodollars is not None:
            found[COST] = str(cost_nanodollars)
        if self.first_s is not None:
            found[FIRST] = f"{self.first_s * 1000:.1f}"
        return found

    def usage(self, usage: Usage | None) -> dict[str, Any]:
        """The usage record of an answer, with what its dialect has no word for."""
        counted = usage or Usage()
        return {
            **self._record(counted),
            "orchestra": {
                "run_id": self.run_id,
                "model": self.model,
                "cost_nanodollars": counted.cost_nanodollars,
                "time_to_first_token_s": self.first_s,
            },
        }


class Writer(Protocol):
    """Whoever writes a model's events in a dialect: `AnswerWriter`, `MessageWriter`."""

    def write(self, events: Iterable[ModelEvent], choice: int = 0) -> bytes:
        """What these events of one answer are to a client."""

    def close(self, usage: Json | None = None) -> bytes:
        """The end. Raises `TruncatedStreamError` where there is none."""

    def failed(self, error: BaseException) -> bytes:
        """The error, in place of the end."""


class Chunks:
    """The events of a run, told in a dialect: a fold, batch by batch."""

    __slots__ = (
        "_gives",
        "_restarts",
        "_run",
        "_told",
        "_writer",
        "ended",
        "facts",
        "failure",
        "result",
    )

    def __init__(self, run: Run, gives: Gives, writer: Writer, facts: Facts) -> None:
        self.facts = facts
        self.ended = False
        """Whether the last chunk has been told, or the error in its place."""
        self.failure: BaseException | None = None
        self._run = run
        self.result: RunFinished | None = None
        """What the run has finished with, once it was told."""
        self._gives = gives
        self._writer = writer
        self._told = self._restarts = 0

    @property
    def begun(self) -> bool:
        """Whether content has been told."""
        return self.facts.first_s is not None

    def of(self, batch: tuple[Event, ...]) -> bytes:
        """What these events are to the client; b"" where they say nothing to it."""
        pieces = []
        for event in batch:
            if self.ended:
                break
            if type(event) is Delta:
                pieces.append(self._said(event.chunk, event.at_s))
            else:
                pieces.append(self._other(event))
        return b"".join(pieces)

    def _said(self, chunk: object, at_s: float) -> bytes:
        choice, events = self._gives.said(chunk)
        self._told += len(chunk) if isinstance(chunk, str) else 1
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
        """The output begins anew: nothing, where nothing was told of it; else the end."""
        self._told = 0
        if not self.begun:
            return b""
        self._run.cancel("what its client was told cannot be taken back")
        return self._failed(
            RunError(
                "the answer has begun anew, and what was told of it cannot be taken back in a "
                "stream; ask without `stream`"
            )
        )

    def _caught_up(self, output: Any) -> bytes:
        """What of an output, which is text or a list of chunks, has not been told."""
        rest = output[self._told :]
        chunks = [rest] if isinstance(rest, str) else rest
        return b"".join(self._said(chunk, self._run.journal.now_s()) for chunk in chunks)

    def _finished(self, event: RunFinished) -> bytes:
        last = self._writer.write(self._gives.ending(event.result))
        if self.facts.first_s is None:
            self.facts.first_s = event.at_s
        try:
            last += self._writer.close(self.facts.usage(event.usage))
        except TruncatedStreamError as error:
            return last + self._failed(error)
        self.ended, self.result = True, event
        return last

    def _failed(self, error: BaseException) -> bytes:
        self.ended, self.failure = True, error
        return self._writer.failed(error)


class ChunkEvents(Events):
    """A run's chunks for one client: `open` it first, then `write`.

    An answer that is to be kept is kept before its end is told: who goes on with it finds it.
    """

    __slots__ = ("_chunks", "_ending", "_keep", "_opening")

    def __init__(
        self,
        run: Run,
        settings: Settings,
        chunks: Chunks,
        keep: Callable[[RunFinished], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(run, settings)
        self._chunks = chunks
        self._keep = keep
        self._opening = self._ending = b""

    async def open(self) -> BaseException | None:
        """Wait for the first content, for a heartbeat at most; or why there is nothing to tell."""
        chunks, pieces = self._chunks, list[bytes]()
        with trio.move_on_after(self._heartbeat_s):
            while not chunks.begun and not chunks.ended:
                batch = await self._reader.after(self._seq)
                pieces.append(self._frames(batch))
        if chunks.failure is not None and not chunks.begun:
            self._run.journal.detach(self._reader)
            return chunks.failure
        self._opening = b"".join(pieces)
        return None

    async def write(self, body: Body) -> None:
        """Send all of them as they come, with a heartbeat where there is silence."""
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
