"""Messages: what an error says of itself, also where its class cannot be trusted to say it."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import Parameter, signature

INDENT = "    "
"""What the further lines of an error in a list begin with; the first begins with two spaces."""


def message(error: BaseException) -> str:
    """The error's message; where its `__str__` fails, how it failed. Raises `KeyboardInterrupt`."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as broken:  # noqa: ASYNC103, BLE001 - a class may raise what it likes
        return f"({type(broken).__name__} while it was asked for its message)"  # noqa: ASYNC104


def describe(error: BaseException) -> str:
    """One line that says what an error is: its type and its message."""
    name, text = class_name(error), message(error).strip()
    return f"{name}: {text}" if text else name


def class_name(error: BaseException) -> str:
    """The name of an error's class; of a foreign one that is called as one of ours, its module too.

    By this name it is decided whether clients may read what the error says.
    """
    kind = type(error)
    if isinstance(error, OwnError) or own_error(kind.__name__) is None:
        return kind.__name__
    return f"{kind.__module__}.{kind.__name__}"


def own_error(name: str) -> type[OwnError] | None:
    """The exception of this name in orchestra's own tree."""
    found = OwnError.__subclasses__()
    for cls in found:
        if cls.__name__ == name:
            return cls
        found += cls.__subclasses__()
    return None


def listed(errors: Iterable[tuple[str, BaseException]]) -> str:
    """A line for each: its name, if it has one, and what the error is.

    Further lines of an error, such as a list of its own, are `below` it: so whoever reads the list
    knows which lines begin an error, whatever the errors say.
    """
    return "".join(
        f"\n  {name}{': ' if name else ''}{below(describe(each))}" for name, each in errors
    )


def below(text: str) -> str:
    """A text that stands in a list, with its further lines farther in than its first."""
    return text.replace("\n", f"\n{INDENT}")


def written(error: Exception) -> str:
    """An error's `repr`: as it is written, where it is made of a message and named fields.

    A failing example of a test can then be pasted. A field that is as by default is left out.
    """
    _, *taken = signature(type(error).__init__).parameters.values()
    fields = [each for each in taken if each.kind is Parameter.KEYWORD_ONLY]
    if [each.name for each in taken if each not in fields] != ["message"]:
        return Exception.__repr__(error)
    told = [repr(getattr(error, "message", message(error)))]
    for name, usual in ((each.name, each.default) for each in fields):
        value = getattr(error, name, usual)
        if value not in (usual, getattr(type(error), name, usual)):
            told.append(f"{name}={value!r}")
    return f"{type(error).__name__}({', '.join(told)})"


class OwnError(Exception):
    """What orchestra raises by itself: the root of `OrchestraError`, where that is not known."""

    __repr__ = written
