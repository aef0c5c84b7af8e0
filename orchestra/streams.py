"""Streams: chunks that are still arriving; and the whole of them, where a step runs a pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ParamSpec, Protocol, TypeVar, overload

C_co = TypeVar("C_co", covariant=True)
P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Stream(Protocol[C_co]):
    """Chunks that are still arriving: what a stream edge gives to the step that reads it.

    Annotate a parameter with `Stream[C]` to read chunks while their producer runs; iterate
    with `async for chunk in chunks`, or take what is ready together with `receive`. A step
    that leaves early tells its producer to stop.
    """

    def __aiter__(self) -> AsyncIterator[C_co]:
        """The chunks one by one, until the producer's last."""

    async def __anext__(self) -> C_co:
        """The next chunk, waiting for it. Raises StopAsyncIteration after the last."""

    async def receive(self) -> tuple[C_co, ...]:
        """All chunks that are ready, waiting for one; empty after the last."""


class Runnable(Protocol[P, T_co]):
    """What a step can run: a pipeline."""

    @property
    def deadline_s(self) -> float | None:
        """How many seconds it may take; None is no bound."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Inline it into the pipeline that is being defined."""


class RunsPipelines(Protocol):
    """What may run pipelines as parts of its own run: the context of a step."""

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
        """Run a pipeline as a part of this step, and return its result, a stream's collected.

        Nothing of it outlives the step: what cancels the step cancels it at once. Its steps are
        in the run's events as `agent[0]/inner/cite`: it was the first that the step ran. Its own
        `deadline_s` bounds it too.

        Raises:
            CheckError: the pipeline has problems, or names what the deployment does not have.
            DefinitionError: it is no pipeline.
            EdgeTypeError: an input is missing, unknown, or of the wrong type.
            LimitExceededError: the step has run `Limits.each_items` of them, or `pipelines_deep`
                steps around it have run one inside the other; or the result is too large.
            DeadlineError: its `deadline_s` has passed.
            RunError: the step is being stopped, or this is called in a task that outlives it.
            Exception: the error of the step that failed, the step's own, with a note of its path.
        """
