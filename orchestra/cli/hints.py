"""Suggestions for errors about unknown names and keywords. Pure.

Python's own suggestions are made when a traceback is printed, which is not shown here.
"""

from __future__ import annotations

import ast
import inspect
import re
import traceback
from collections.abc import Iterable
from types import FrameType

from orchestra.annotations.deferred import signature
from orchestra.graph.source.frames import is_users
from orchestra.graph.source.site import site_of
from orchestra.homes import home_of
from orchestra.nearest import did_you_mean

_IMPORTED = re.compile(r"cannot import name '(\w+)'")
_KEYWORD = re.compile(r"got an unexpected keyword argument '(\w+)'")


def hint_for(error: BaseException) -> str:
    """The suggestion to add to an error: the nearest valid name; empty if there is none."""
    match error:
        case NameError(name=str(name)):
            return _name_hint(name, error)
        case ImportError(name=str(module)) if module.partition(".")[0] == "orchestra":
            return _import_hint(str(error))
        case ImportError(name=str(module)) if _is_being_imported(module, error):
            return "; two modules import each other: move what both need into a third one"
        case TypeError() if "Did you mean" in str(error):  # Python 3.13 has its own suggestion
            return ""
        case TypeError() if found := _KEYWORD.search(str(error)):
            return _keyword_hint(found[1], error)
    return ""


def _is_being_imported(module: str, error: BaseException) -> bool:
    """Whether the error was raised while this module was being executed."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == module
        for frame in frames
    )


def _import_hint(text: str) -> str:
    """The import to write for a name that is in another of our modules; "" if unknown."""
    found = _IMPORTED.search(text)
    home = None if found is None else home_of(found[1])
    return "" if found is None or home is None else f"; write `from {home} import {found[1]}`"


def _name_hint(name: str, error: BaseException) -> str:
    at = _user_frame(error)
    if at is None:
        return ""
    from orchestra import steps

    if name in steps.__all__:
        return f"; write `from orchestra.steps import {name}` above it"
    frame, _ = at
    return _nearest(name, {**frame.f_globals, **frame.f_locals})


def _keyword_hint(name: str, error: BaseException) -> str:
    at = _user_frame(error)
    if at is None:
        return ""
    site = site_of(*at)
    calls = (each for each in reversed(site.path) if isinstance(each, ast.Call))
    for call in calls:
        if any(keyword.arg == name for keyword in call.keywords):
            known = _keywords(site.meaning(call.func))
            return _nearest(name, known) or (f"; it takes: {', '.join(known)}" if known else "")
    return ""


def _keywords(called: object) -> list[str]:
    """The keyword parameters of a callable."""
    try:
        parameters = signature(called).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [each.name for each in parameters if each.kind in kinds]


def _nearest(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, (each for each in known if each[:2] != "__"), before="; ")


def _user_frame(error: BaseException) -> tuple[FrameType, int] | None:
    """The innermost frame of the user's own code in the traceback, and its instruction."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        if is_users(trace.tb_frame.f_code.co_filename):
            found = trace.tb_frame, trace.tb_lasti
        trace = trace.tb_next
    return found
