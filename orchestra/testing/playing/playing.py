"""Playing: plans whose steps are replaced by scripts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from functools import wraps
from inspect import signature
from typing import Any

import attrs
import trio

from orchestra.compiler.blocks.slots import Block, Operation
from orchestra.compiler.plan import Plan
from orchestra.errors import DefinitionError
from orchestra.graph.nodes import Call, Node
from orchestra.graph.steps import Kind, Step
from orchestra.steps.conversation.tools import FunctionTool
from orchestra.testing.playing.attempts import AttemptCounter
from orchestra.testing.playing.threads import standing_still
from orchestra.testing.scripts import (
    Answers,
    Attempts,
    Fails,
    Gives,
    Hangs,
    Plain,
    Script,
    Streams,
    without_traceback,
)


def rescript(plans: Sequence[Plan], scripts: Mapping[str, Script]) -> list[Plan]:
    """Replace steps of plans by scripts, by path (`inner/cite#2`) or by name (`cite`).

    A path takes precedence over a name. The steps in the body of an `each` are named as in its
    plan, without the item. A step or tool that would run in a thread is called directly: threads
    do not know virtual time.

    Raises:
        DefinitionError: a script matches no step of any plan, or cannot be played by it.
    """
    used: set[str] = set()
    blocks = [_rescripted(plan.block, scripts, used) for plan in plans]
    for name in scripts:
        if name not in used:
            whose = " or ".join(repr(plan.pipeline.name) for plan in plans)
            names = sorted({name for plan in plans for name in _names(plan.block)})
            raise DefinitionError(
                f"there is a script for {name!r}, which is not a step of {whose}; "
                f"{'its' if len(plans) == 1 else 'their'} steps are: {', '.join(names)}; for steps "
                "of a pipeline that a step runs, write World(children=[the_pipeline])"
            )
    return [attrs.evolve(plan, block=block) for plan, block in zip(plans, blocks, strict=True)]


def rescripted(plan: Plan, scripts: Mapping[str, Script]) -> Plan:
    """Like `rescript`, for one plan, in which not every script has to match.

    Raises:
        DefinitionError: a script cannot be played by its step.
    """
    return attrs.evolve(plan, block=_rescripted(plan.block, scripts, set()))


def _rescripted(block: Block, scripts: Mapping[str, Script], used: set[str]) -> Block:
    return attrs.evolve(
        block,
        operations=tuple(
            None if operation is None else _played(operation, scripts, used)
            for operation in block.operations
        ),
    )


def _played(
    operation: Operation[Node], scripts: Mapping[str, Script], used: set[str]
) -> Operation[Node]:
    if operation.body is not None:
        return attrs.evolve(operation, body=_rescripted(operation.body, scripts, used))
    node = operation.node
    if not isinstance(node, Call):
        return operation
    operation = attrs.evolve(operation, constants=_without_threads(operation.constants))
    name = operation.name if operation.name in scripts else node.step.name
    streams = operation.chunk is not None
    if name in scripts:
        used.add(name)
        player = _player(name, scripts[name], node.step, streams=streams)
        # keeps the step's annotations, which scripted values must fit, too
        call: Callable[..., Any] = wraps(node.step.call)(player)
    elif node.step.kind is Kind.THREAD:
        call = _on_the_spot(standing_still(node.step.call))
    else:
        return operation
    kind = Kind.STREAM if streams else Kind.ASYNC
    step = attrs.evolve(node.step, call=call, kind=kind)
    return attrs.evolve(operation, node=attrs.evolve(node, step=step), plain=False)


def _on_the_spot(call: Callable[..., object]) -> Callable[..., Awaitable[object]]:
    """A plain function as an async one."""

    @wraps(call)  # which also keeps its signature
    async def on_the_spot(*args: object, **kwargs: object) -> object:
        await trio.lowlevel.checkpoint()
        return call(*args, **kwargs)

    return on_the_spot


def _without_threads(constants: Mapping[str, object]) -> dict[str, object]:
    """The constants of a call; tools that would run in a thread are replaced."""
    found = dict(constants)
    for name, value in constants.items():
        if isinstance(value, tuple) and any(isinstance(each, FunctionTool) for each in value):
            found[name] = tuple(
                attrs.evolve(each, thread=False, call=standing_still(each.call))
                if isinstance(each, FunctionTool) and each.thread
                else each
                for each in value
            )
    return found


def _player(
    name: str, script: Script, step: Step[..., Any], *, streams: bool
) -> Callable[..., Any]:
    """A function that plays the script."""
    scripts = script.scripts if isinstance(script, Attempts) else (script,)
    for each in scripts:
        _refuse_wrong(name, each, streams=streams)
    attempts = AttemptCounter()

    def this(args: tuple[object, ...], kwargs: dict[str, object]) -> Plain:
        current = scripts[min(attempts.next(), len(scripts)) - 1]
        if not isinstance(current, Answers):
            assert not isinstance(current, Attempts), "Attempts refuses itself"
            return current
        answer: Plain = _asked(current, step, args, kwargs)
        _refuse_wrong(name, answer, streams=streams)
        return answer

    async def value(*args: object, **kwargs: object) -> object:
        return await _value(this(args, kwargs))

    async def stream(*args: object, **kwargs: object) -> AsyncGenerator[object, None]:
        current = this(args, kwargs)
        if isinstance(current, Streams):
            for after_s, chunk in current.chunks:
                await trio.sleep(after_s)
                yield chunk
            await trio.sleep(current.end_s)
            if current.error is not None:
                raise without_traceback(current.error)
        else:
            await _value(current)  # it fails or hangs

    return stream if streams else value


def _refuse_wrong(name: str, script: object, *, streams: bool) -> None:
    if not isinstance(script, Answers | Gives | Fails | Streams | Hangs):
        right = f"Streams(((0.0, {script!r:.80}),))" if streams else f"Gives({script!r:.80})"
        raise DefinitionError(
            f"step {name!r} is scripted with {script!r:.80}, which is not a script; write "
            f"{right}, or one of Fails, Hangs, Answers and Attempts"
        )
    if isinstance(script, Gives if streams else Streams):
        what = "a stream" if streams else "one value"
        right = "Streams" if streams else "Gives"
        raise DefinitionError(f"step {name!r} gives {what}: script it with {right}, not {script!r}")


def _asked(
    script: Answers, step: Step[..., Any], args: tuple[object, ...], kwargs: dict[str, object]
) -> Any:
    """The script that an `Answers` function returns for a call; it gets no context."""
    bound = signature(step.call).bind(*args, **kwargs)
    if step.injected is not None:
        bound.arguments.pop(step.injected, None)
    return script.by(*bound.args, **bound.kwargs)


async def _value(script: Plain) -> object:
    if isinstance(script, Hangs):
        await trio.sleep_forever()
    assert isinstance(script, Gives | Fails), "checked in `_player`"
    await trio.sleep(script.after_s)
    if isinstance(script, Fails):
        raise without_traceback(script.error)
    return script.value


def _names(block: Block) -> set[str]:
    names = set()
    for operation in block.operations:
        if operation is not None:
            names.add(operation.name)
            names |= _names(operation.body) if operation.body is not None else set()
    return names
