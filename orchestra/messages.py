"""Messages: the text of an error or a value, even if its class fails to produce one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from inspect import Parameter, signature

INDENT = "    "
"""The indent of further lines of an error in a list; the first line is indented two spaces."""
_BARE = re.compile(r"[A-Za-z0-9_-]+")
"""A key that needs no quotes in TOML."""


def message(error: BaseException) -> str:
    """The error's message; if its `__str__` fails, how it failed. Raises `KeyboardInterrupt`."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as broken:  # noqa: ASYNC103, BLE001 - `__str__` may raise anything
        return f"({type(broken).__name__} while it was asked for its message)"  # noqa: ASYNC104


def describe(error: BaseException) -> str:
    """The error as text: its class name, and its message if it has one."""
    name, text = class_name(error), message(error).strip()
    return f"{name}: {text}" if text else name


def class_name(error: BaseException) -> str:
    """The name of an error's class; with its module, if the class is foreign but named like ours.

    This name decides whether clients may read the message of the error.
    """
    kind = type(error)
    if isinstance(error, OwnError) or own_error(kind.__name__) is None:
        return kind.__name__
    return f"{kind.__module__}.{kind.__name__}"


def own_error(name: str) -> type[OwnError] | None:
    """The class of this name in orchestra's own tree of exceptions; None if there is none."""
    found = OwnError.__subclasses__()
    for cls in found:
        if cls.__name__ == name:
            return cls
        found += cls.__subclasses__()
    return None


def safe_repr(value: object) -> str:
    """The value's `repr`, for a message; that of `object` if its own fails."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a user's class may raise anything
        return object.__repr__(value)


def counted(count: int, noun: str) -> str:
    """A number of things: `1 problem`, `2 problems`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def dotted(path: Iterable[str | int]) -> str:
    """A path as written in a TOML file: `models."my model".timeouts.idle_s`."""
    keys = map(str, path)
    return ".".join(key if _BARE.fullmatch(key) else in_quotes(key) for key in keys)


def in_quotes(text: str) -> str:
    """The text as a one-line TOML string, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def listed(errors: Iterable[tuple[str, BaseException]]) -> str:
    """A line for each error: the name given with it, if any, and the error.

    Further lines of an error, such as a list of its own, are indented by `below`, so that a reader
    knows which lines begin an error, whatever the messages contain.
    """
    return "".join(
        f"\n  {name}{': ' if name else ''}{below(describe(each))}" for name, each in errors
    )


def below(text: str) -> str:
    """The text with every line but the first indented, for use in a list."""
    return text.replace("\n", f"\n{INDENT}")


def written(error: Exception) -> str:
    """An error's `repr`, as source code if its class takes a message and keyword-only fields.

    So a failing example of a test can be pasted. Fields with their default value are left out.
    """
    _, *parameters = signature(type(error).__init__).parameters.values()
    fields = [each for each in parameters if each.kind is Parameter.KEYWORD_ONLY]
    if [each.name for each in parameters if each not in fields] != ["message"]:
        return Exception.__repr__(error)
    arguments = [repr(getattr(error, "message", message(error)))]
    for name, default in ((each.name, each.default) for each in fields):
        value = getattr(error, name, default)
        if value not in (default, getattr(type(error), name, default)):
            arguments.append(f"{name}={value!r}")
    return f"{type(error).__name__}({', '.join(arguments)})"


class OwnError(Exception):
    """The base class of `OrchestraError`, for modules that cannot import `orchestra.errors`."""

    __repr__ = written
