"""Streams: the protocols of chunks that are still arriving, and of running a pipeline in a step."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, ParamSpec, Protocol, TypeVar, overload

C_co = TypeVar("C_co", covariant=True)
P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Stream(Protocol[C_co]):
    """Chunks that are still arriving: the input of a step from a stream edge.

    Annotate a parameter with `Stream[C]` to read chunks while their producer runs; iterate
    with `async for chunk in chunks`, or get all that are ready with `receive`. If a step stops
    reading early, its producer is stopped.
    """

    def __aiter__(self) -> AsyncIterator[C_co]:
        """The chunks one by one, until the producer's last."""

    async def __anext__(self) -> C_co:
        """Wait for the next chunk. Raises StopAsyncIteration after the last."""

    async def receive(self) -> tuple[C_co, ...]:
        """Return all chunks that are ready, waiting for at least one; empty after the last."""


class Runnable(Protocol[P, T_co]):
    """A pipeline, as something that a step can run."""

    @property
    def deadline_s(self) -> float | None:
        """How many seconds a run of it may take; None is no limit."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Inline it into the pipeline that is being defined."""


class RunsPipelines(Protocol):
    """An object that runs pipelines as parts of its own run: the context of a step."""

    @overload
    async def run(  # type: ignore[overload-overlap]
        self, pipeline: Runnable[P, Stream[str]], /, *args: P.args, **kwargs: P.kwargs
    ) -> str: ...
    @overload
    async def run(  # type: ignore[overload-overlap]
        self, pipeline: Runnable[P, Stream[bytes]], /, *args: P.args, **kwargs: P.kwargs
    ) -> bytes: ...
    @overload
    async def run(
        self, pipeline: Runnable[P, Stream[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[T]: ...
    @overload
    async def run(self, pipeline: Runnable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def run(self, pipeline: Runnable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a pipeline as a part of this step, and return its result; a stream is collected.

        Nothing of it outlives the step: cancelling the step cancels it at once. In the run's
        events its steps have paths such as `agent[0]/inner/cite`, where 0 means the first
        pipeline that the step ran. Its own `deadline_s` applies too.

        Raises:
            CheckError: the pipeline has problems, or names what the deployment does not have.
            DefinitionError: the first argument is not a pipeline.
            EdgeTypeError: an input is missing, unknown, or of the wrong type.
            LimitExceededError: the step has run `Limits.each_items` pipelines; or it is nested in
                `Limits.pipelines_deep` of them; or the result is too large.
            DeadlineError: its `deadline_s` has passed.
            RunError: the step is being stopped, or a task that would outlive the step calls this.
            Exception: the error of the step that failed, the step's own, with a note of its path.
        """

    def stream(
        self, pipeline: Runnable[P, Stream[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AbstractAsyncContextManager[Stream[T]]:
        """Run a pipeline as `run` does, and read its chunks as they come, in an `async with` block.

        `async for chunk in chunks` ends when the whole pipeline has ended. The pipeline waits when
        it is more than twice `Limits.lane_chunks` chunks ahead. Leaving the block, however that
        happens, cancels what still runs of it, and waits for its end. If the pipeline fails, the
        next read raises its error, and the chunks not read by then are dropped; an error that no
        read has raised is not raised at the end of the block.

        Raises, at the start of the block: what `run` raises before the pipeline starts, and
            EdgeTypeError: the result of the pipeline is a value, not a stream.

        Raises, when chunks are read: what `run` raises after the pipeline has started, and
            RunError: the pipeline restarts its output (`fallback(..., restart=True)`), so the
                chunks before are void; or the block was left.
        """
