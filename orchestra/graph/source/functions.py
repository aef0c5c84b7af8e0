"""Checks whether a function may be decorated, and finds where it is defined."""

from __future__ import annotations

import dis
import inspect
import linecache
import re
from collections.abc import Callable
from functools import partial
from types import CodeType, FunctionType
from typing import Any

from orchestra.annotations.deferred import signature
from orchestra.errors import DefinitionError
from orchestra.graph.source.frames import called_at, place

BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def function_of(decorated: Callable[..., object], noun: str) -> FunctionType:
    """The function under all decorators.

    Raises:
        DefinitionError: it is a class, a method, or another callable.
    """
    function = inspect.unwrap(decorated)
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType):
        raise DefinitionError(f"{called_at()}: @{noun} on {_no_function(decorated, noun)}")
    holder, _, name = function.__qualname__.rpartition(".")
    first = next(iter(signature(function).parameters), "")
    is_method = holder and not holder.endswith("<locals>") and first in ("self", "cls")
    if is_method and not inspect.ismethod(decorated):
        raise DefinitionError(
            f"{place(*defined_at(function.__code__))}: @{noun} on the method {holder}.{name}, "
            f"which has no `{first}` yet; decorate the method of an object, "
            f"`{name} = {noun}(thing.{name})`, or write a function"
        )
    return function


def name_of(given: object, function: Callable[..., object], noun: str) -> str:
    """The name of a step or pipeline: the given one, else that of its function.

    Raises:
        DefinitionError: the given name is not one line of printable text.
    """
    if given is None:
        return function.__name__
    if isinstance(given, str) and given.strip() and given.isprintable():
        return given
    raise DefinitionError(
        f"{called_at()}: @{noun}(name={given!r:.80}): a name must be one line of text, which "
        f"events and requests use; write @{noun}(name={function.__name__!r}), or leave it out"
    )


def _no_function(decorated: object, noun: str) -> str:
    """The message about a decorated object that is not a function, with the code to write."""
    kind = "a class" if isinstance(decorated, type) else f"a {type(decorated).__name__}"
    name = getattr(decorated, "__name__", None)
    if isinstance(decorated, str):
        return f"the text {decorated!r}; pass a name by keyword: @{noun}(name={decorated!r})"
    if isinstance(decorated, partial):
        inner = _name(underlying(decorated))
        return (
            f"a partial of {inner}; make the partial of the {noun}: `{inner} = {noun}({inner})`, "
            f"and `functools.partial({inner}, ...)`"
        )
    if name is None and callable(decorated):
        return (
            f"an object of the class {type(decorated).__name__}; decorate its `__call__`: "
            f'`{noun}(name="...")(thing.__call__)`'
        )
    called = name or f"{decorated!r:.80}"
    return (
        f"{called!r}, which is {kind}; a {noun} is a function: write one that calls it, "
        f"`def name(...): return {called}(...)`"
    )


def underlying(function: Callable[..., Any]) -> Callable[..., Any]:
    """The object with the annotations: the function of a partial or decorator, or `__call__`."""
    while True:
        if isinstance(function, partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif inspect.isroutine(function) or isinstance(function, type):
            return function  # annotations of a class are about its members
        else:
            return type(function).__call__


def defined_at(code: CodeType) -> tuple[str, int]:
    """File and line of a function's `def`, below its decorators."""
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    head = re.compile(rf"\s*(async\s+)?def\s+{re.escape(code.co_name)}\b")
    offset = next((n for n, line in enumerate(lines) if head.match(line)), 0)
    return code.co_filename, code.co_firstlineno + offset


def returned_at(code: CodeType) -> tuple[str, int]:
    """File and line of a function's last `return`."""
    returns = [each for each in dis.get_instructions(code) if each.opname.startswith("RETURN_")]
    lines = [each.positions.lineno for each in returns if each.positions is not None]
    return code.co_filename, lines[-1] or code.co_firstlineno


def _name(function: object) -> str:
    return str(getattr(function, "__name__", None) or repr(function))
