"""Calling: the results of what a model asks for.

What goes wrong in a call is a result too, which the model reads, and may do better the next
time; only a cancellation goes through.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import partial

import msgspec
import trio

from orchestra.annotations.reading import decoded, read_members
from orchestra.errors import describe
from orchestra.events import jsonable
from orchestra.protocols import Context
from orchestra.steps.tools import FunctionTool
from orchestra.values import ToolCall, ToolResult

_ERRORS_MAX = 8
"""Errors of one exception group are told."""
_NAME_MAX = 100


async def answer_all(
    tools: Mapping[str, FunctionTool[..., object]],
    calls: Sequence[ToolCall],
    context: Context,
    *,
    at_once: int,
    timeout_s: float | None,
) -> tuple[ToolResult, ...]:
    """One result for each call, in order; at most `at_once` of them run at the same time."""
    results: dict[int, ToolResult] = {}
    left = iter(enumerate(calls))

    async def work() -> None:
        for number, call in left:
            await trio.lowlevel.checkpoint()  # a plain function has none
            found = tools.get(call.name)
            if found is None:
                results[number] = _unknown(call, tools)
            else:
                results[number] = await answer(found, call, context, timeout_s)

    async with trio.open_nursery() as nursery:
        for _ in range(min(at_once, len(calls))):
            nursery.start_soon(work)
    return tuple(results[number] for number in range(len(calls)))


async def answer(
    tool: FunctionTool[..., object],
    call: ToolCall,
    context: Context,
    timeout_s: float | None = None,
) -> ToolResult:
    """The result of a call; with `is_error` where its arguments or the function are wrong.

    Never raises, but for a cancellation. A function in a thread cannot be interrupted: what it
    gives counts, however late.
    """
    wrong = partial(ToolResult, call.id, call.name, is_error=True)
    try:
        given = decoded(call.arguments)
    except ValueError as error:
        return wrong(f"the arguments of {call.name} are wrong: {error}")
    if not isinstance(given, dict):
        return wrong(f"the arguments of {call.name} are one JSON object, not {given!r:.100}")
    arguments, misfits = read_members(tool.kinds, tool.required, given)
    if misfits:
        problems = "; ".join(map(str, misfits))
        return wrong(f"the arguments of {call.name} do not fit: {problems}")
    if tool.injected is not None:
        arguments[tool.injected] = context
    limit_s = tool.timeout_s if tool.timeout_s is not None else timeout_s
    try:
        with trio.move_on_after(math.inf if limit_s is None else limit_s):
            return ToolResult(call.id, call.name, _text(await _called(tool, arguments)))
    except Exception as error:  # noqa: BLE001 - a tool may raise anything; the model hears of it
        return wrong(_told(error))
    return wrong(f"{call.name} was not done within {limit_s:g} s, and was stopped")


async def _called(tool: FunctionTool[..., object], arguments: dict[str, object]) -> object:
    if tool.thread:
        return await trio.to_thread.run_sync(partial(tool.call, **arguments))
    given = tool.call(**arguments)
    return await given if inspect.isawaitable(given) else given


def _unknown(call: ToolCall, tools: Mapping[str, object]) -> ToolResult:
    near = get_close_matches(call.name[:_NAME_MAX], tools, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    message = f"there is no tool {call.name[:_NAME_MAX]!r}; {hint}The tools are: {', '.join(tools)}"
    return ToolResult(call.id, call.name, message, is_error=True)


def _text(value: object) -> str:
    """What a model reads of a value: text as it is, and all else as JSON."""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value, enc_hook=jsonable).decode()


def _told(error: Exception) -> str:
    """Type and message of an error, and of those in a group; never a traceback."""
    if not isinstance(error, ExceptionGroup):
        return describe(error)
    inner = [_told(each) for each in error.exceptions[:_ERRORS_MAX]]
    return "; ".join(inner)
