"""An engine that is not open yet: a context, which explains its use as if it were the engine."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from orchestra.errors import RunError

if TYPE_CHECKING:
    from orchestra.engine.engine import Engine

_USES = ("run", "start", "plan", "runs", "wait_idle", "cancel_all", "close")


class Opening(AbstractAsyncContextManager["Engine", bool | None]):
    """The result of `open_engine`: `async with` opens the engine, and closes it at the end."""

    def __init__(self, opened: AbstractAsyncContextManager[Engine, bool | None]) -> None:
        self._opened = opened

    async def __aenter__(self) -> Engine:
        return await self._opened.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._opened.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - the engine's own

    if not TYPE_CHECKING:  # hidden from type checkers, which report these uses

        def __getattr__(self, name: str) -> NoReturn:
            if name in _USES:
                raise _unopened(f"`.{name}` is not there yet")
            raise AttributeError(f"open_engine(...) has no {name!r}")

        def __await__(self) -> Generator[None, None, NoReturn]:
            raise _unopened("it cannot be awaited")

        def __enter__(self) -> NoReturn:
            raise _unopened("`with` cannot open it")

        def __exit__(self, *told: object) -> None:
            """Never called: `with` calls `__enter__` only if it exists."""


def _unopened(what: str) -> RunError:
    return RunError(
        f"open_engine(...) gives an engine that is not open, and {what}: write `async with "
        "open_engine(...) as engine:`, and use `engine` within it; a script that runs one pipeline "
        "needs none: `orchestra.run(pipeline, ...)`"
    )
