"""What a user's function has raised, in words: also where the error cannot say it."""

from __future__ import annotations

_OF_ASYNCIO = (
    "a step runs on Trio, and this is asyncio's: write trio.sleep for asyncio.sleep, a nursery for "
    "gather and TaskGroup, and call what knows asyncio only with asyncio.run in a "
    "@step(thread=True)"
)


def message_of(error: Exception) -> str:
    """What an error says of itself, also where it cannot; and what to write, where we know."""
    said = _said(error)
    return f"{said}; {_OF_ASYNCIO}" if is_of_asyncio(error) else said


def is_of_asyncio(error: Exception) -> bool:
    """Whether it is raised because somebody called asyncio on Trio."""
    if isinstance(error, RuntimeError):
        return _said(error) == "no running event loop"
    return isinstance(error, TypeError) and _said(error).startswith(
        "trio.run received unrecognized yield"
    )


def _said(error: Exception) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - an error may be of any class
        return f"({type(broken).__name__} while it was asked for its message)"
