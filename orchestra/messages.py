"""Messages: what an error says of itself, also where its class cannot be trusted to say it."""

from __future__ import annotations


def message(error: BaseException) -> str:
    """The error's message; where its `__str__` fails, how it failed. Raises `KeyboardInterrupt`."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as broken:  # noqa: ASYNC103, BLE001 - a class may raise what it likes
        return f"({type(broken).__name__} while it was asked for its message)"  # noqa: ASYNC104
