"""Runs the tools that a model calls, and makes the results for the model.

A failed call gives a result, too: the model reads it, and may do better the next time. The
exception of a function is also reported to the run and the log, since the model may not mention
it. Only cancellations are raised, and errors that no model can correct: a tool uses a wire as a
value, awaits something that belongs to asyncio, or runs a pipeline that has problems.

Images and files that a function returns are parts beside its result, as providers take only text as
a result: `result_turns` puts them into a user turn after it.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, islice

import attrs
import msgspec
import trio

from orchestra.annotations.reading import decoded, read_members
from orchestra.codecs.serving.results import result_parts
from orchestra.errors import DeadlineError, EdgeTypeError
from orchestra.event_lines import dump_of
from orchestra.events import ToolFailed, ToolFinished, ToolStarted
from orchestra.graph.calls.raised import is_of_code, message_of, name_and_message
from orchestra.groups import in_order, leaves
from orchestra.nearest import did_you_mean
from orchestra.policies.account import PRESENT
from orchestra.policies.limits.shares import OwnShares, Shares, in_thread
from orchestra.protocols import Context
from orchestra.steps.conversation.tools import FunctionTool
from orchestra.surrogates import replaced
from orchestra.values import (
    FilePart,
    ImagePart,
    ImageUrlPart,
    Part,
    TextPart,
    ToolCall,
    ToolResult,
)

_ERRORS_MAX = 8
"""The most errors reported of one exception group."""
_NAME_MAX = 100
_ITEMS_MAX = 10_000
"""The most items of an iterable result, as a generator may be endless."""
_PARTS = (TextPart, ImagePart, ImageUrlPart, FilePart)
_THREADS = OwnShares("threads of tools", Shares.of_threads)
"""Separate from Trio's own worker threads, which all tenants need, for name lookups for instance.
"""

log = logging.getLogger("orchestra.steps")


@attrs.define(eq=False)
class Progress:
    """How far the calls of a round are, for whoever looks after they were cancelled."""

    begun: set[str] = attrs.field(factory=set)
    """The ids of the calls that have begun."""
    parts: list[Part] = attrs.field(factory=list)
    """The results of those that have ended."""


async def answer_all(
    tools: Mapping[str, FunctionTool[..., object]],
    calls: Sequence[ToolCall],
    context: Context,
    progress: Progress,
    *,
    at_once: int,
    timeout_s: float | None,
) -> tuple[Part, ...]:
    """The parts of `answer` for each call, in order; at most `at_once` calls run at a time."""

    async def result(call: ToolCall) -> tuple[Part, ...]:
        await trio.lowlevel.checkpoint()  # a plain function has no checkpoint
        progress.begun.add(call.id)
        found = tools.get(call.name)
        unknown = (_unknown(call, tools),) if found is None else ()
        parts = unknown if found is None else await answer(found, call, context, timeout_s)
        progress.parts += parts
        return parts

    return tuple(chain.from_iterable(await in_order(result, calls, at_once)))


async def answer(
    tool: FunctionTool[..., object],
    call: ToolCall,
    context: Context,
    timeout_s: float | None = None,
) -> tuple[Part, ...]:
    """The result of a call, followed by the images and files that the function returned.

    The result has `is_error` if the arguments are wrong or the function fails. A function in a
    worker thread cannot be interrupted: its result counts, however late it is.

    Raises:
        DefinitionError: the function calls a step, or uses a wire as a value.
        CheckError: the function runs a pipeline that has problems.
        RuntimeError: the function awaits something of asyncio (in some cases, a TypeError).
    """
    wrong = partial(result_parts, call.id, call.name, is_error=True)
    arguments = _arguments(tool, call)
    if isinstance(arguments, str):
        return wrong(arguments)
    if tool.injected is not None:
        arguments[tool.injected] = _of_tool(context, call)
    limit_s = tool.timeout_s if tool.timeout_s is not None else timeout_s
    began_s, record = trio.current_time(), PRESENT.get().record
    record(ToolStarted, call.name, call.id[:_NAME_MAX])
    try:
        with trio.move_on_after(math.inf if limit_s is None else limit_s):
            found = _content(await _called(tool, arguments))
            lasted_s = trio.current_time() - began_s
            record(ToolFinished, call.name, call.id[:_NAME_MAX], lasted_s)
            return result_parts(call.id, call.name, found)
    except Exception as error:
        if any(map(is_of_code, leaves(error))):
            raise
        message = replaced("; ".join(map(_described, leaves(error)[:_ERRORS_MAX])))
        _report(call, *name_and_message(error), error)
        return wrong(message)
    late = f"{call.name} was not done within {limit_s:g} s, and was stopped"
    _report(call, DeadlineError.__name__, late)
    return wrong(late)


def needs_approval(tools: Mapping[str, FunctionTool[..., object]], call: ToolCall) -> bool:
    """Whether a person has to approve the call: not if it would fail for its arguments."""
    found = tools.get(call.name)
    return (
        found is not None and found.needs_approval and not isinstance(_arguments(found, call), str)
    )


def _arguments(tool: FunctionTool[..., object], call: ToolCall) -> dict[str, object] | str:
    """The arguments of a call, converted to their annotations; or what is wrong with them."""
    try:
        given = decoded(call.arguments)
    except ValueError as error:
        return f"the arguments of {call.name} are wrong: {error}"
    given = {} if given is None else given  # how some models write "no arguments"
    if not isinstance(given, dict):
        return f"the arguments of {call.name} are one JSON object, not {given!r:.100}"
    if tool.hidden is not None:
        if taken := sorted(tool.hidden & given.keys()):
            return f"the arguments of {call.name} do not fit: there is no {taken[0]!r}"
        return given
    arguments, misfits = read_members(tool.kinds, tool.required, given)
    if misfits:
        return f"the arguments of {call.name} do not fit: {'; '.join(map(str, misfits))}"
    return arguments


def _of_tool(context: Context, call: ToolCall) -> Context:
    """The context for a tool call in a step; a test's fake context is passed on unchanged."""
    of_tool: Callable[[str, str], Context] | None = getattr(context, "of_tool", None)
    return context if of_tool is None else of_tool(call.name, call.id[:_NAME_MAX])


def _report(call: ToolCall, error: str, message: str, raised: Exception | None = None) -> None:
    """Report a failed tool to the run and the log."""
    account = PRESENT.get()
    account.record(ToolFailed, call.name, error, message, call.id[:_NAME_MAX])
    log.warning("tool %r failed in run %s: %s", call.name, account.run_id, error, exc_info=raised)


async def _called(tool: FunctionTool[..., object], arguments: dict[str, object]) -> object:
    if tool.thread:
        tenant = PRESENT.get().caller.fairness_key
        return await in_thread(_THREADS.get(), tenant, partial(tool.call, **arguments))
    given = tool.call(**arguments)
    return await given if inspect.isawaitable(given) else given


def _unknown(call: ToolCall, tools: Mapping[str, object]) -> ToolResult:
    hint = did_you_mean(call.name, tools, after=" ")
    message = f"there is no tool {call.name[:_NAME_MAX]!r}; {hint}The tools are: {', '.join(tools)}"
    return ToolResult(call.id, call.name, message, is_error=True)


def _content(value: object) -> str | list[Part]:
    """A value for a model: text; or parts, if it is a part of a message, or a list with some.

    Raises:
        EdgeTypeError: as for `_text`.
    """
    several = value if isinstance(value, list | tuple) else [value]
    if not any(isinstance(each, _PARTS) for each in several):
        return replaced(_text(value))
    return [
        each if isinstance(each, _PARTS) else TextPart(replaced(_text(each))) for each in several
    ]


def _text(value: object) -> str:
    """A value as text for a model: text as it is, everything else as JSON.

    Raises:
        EdgeTypeError: the value, or a value inside it, has no form in JSON.
    """
    if isinstance(value, str):
        return value
    # Only once, as a generator cannot be read twice.
    plain = msgspec.to_builtins(value, enc_hook=_plain, str_keys=True)
    try:
        return msgspec.json.encode(plain).decode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can escape
        return json.dumps(plain)


def _plain(value: object) -> object:
    """The `enc_hook` for msgspec: makes a dict or list of any other mapping or iterable."""
    if isinstance(value, Mapping):
        return dict(value)
    if (dumped := dump_of(value)) is not None:  # it is an iterable of pairs, too
        return dumped
    if not isinstance(value, Iterable):
        raise EdgeTypeError(
            f"it gave {value!r:.200}, a {type(value).__name__}, which has no form in JSON; return "
            "text, numbers, lists, dicts, or an attrs class, dataclass or Pydantic model of those"
        )
    items = list(islice(value, _ITEMS_MAX + 1))
    if len(items) > _ITEMS_MAX:
        raise EdgeTypeError(
            f"it gave a {type(value).__name__} of more than {_ITEMS_MAX} items, which no model "
            "reads; return those that count"
        )
    return items


def _described(error: Exception) -> str:
    """The type and message of an error, for the model; never a traceback."""
    message = message_of(error).strip()
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
