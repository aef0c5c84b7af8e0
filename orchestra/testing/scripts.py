"""Scripts: what a step does in a simulated run, instead of what it would really do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, TypeAlias

import attrs
import trio

from orchestra.compiler.blocks import Block, Operation
from orchestra.compiler.plan import Plan
from orchestra.errors import DefinitionError
from orchestra.graph.nodes import Call
from orchestra.graph.steps import Kind
from orchestra.steps.tools import FunctionTool
from orchestra.testing.attempts import AttemptCounter


@attrs.frozen
class Gives:
    """The value, `after_s` seconds after the call."""

    value: object
    after_s: float = 0.0


@attrs.frozen
class Fails:
    """The error, `after_s` seconds after the call."""

    error: Exception
    after_s: float = 0.0


@attrs.frozen
class Streams:
    """The chunks, each its number of seconds after the one before; then an error, or the end."""

    chunks: tuple[tuple[float, object], ...]
    error: Exception | None = None
    end_s: float = 0.0


@attrs.frozen
class Hangs:
    """Nothing, ever: until it is cancelled."""


Script: TypeAlias = "Gives | Fails | Streams | Hangs | Attempts"


@attrs.frozen
class Attempts:
    """What each attempt of a call does, in order; the last again for those after it."""

    scripts: tuple[Gives | Fails | Streams | Hangs, ...] = attrs.field()

    @classmethod
    def failing(
        cls, times: int, error: Exception, then: Gives | Fails | Streams | Hangs
    ) -> Attempts:
        """So many attempts with this error, at once, and then one that does this."""
        return cls((*[Fails(error)] * times, then))

    @scripts.validator
    def _some(self, _: object, value: tuple[object, ...]) -> None:
        if not value:
            raise ValueError("Attempts(()): give it one script at least, for every attempt")


def rescript(plan: Plan, scripts: Mapping[str, Script]) -> Plan:
    """The plan with scripts in place of steps, by path (`inner/cite#2`) or by name (`cite`).

    A path goes before a name; the steps in the body of an `each` are named as in its plan,
    without the item. A step or tool that would run in a thread runs on the spot: threads know
    nothing of virtual time.

    Raises:
        DefinitionError: a script is for no step of the plan, or cannot be played by it.
    """
    used: set[str] = set()
    block = _rescripted(plan.block, scripts, used)
    for name in scripts:
        if name not in used:
            raise DefinitionError(
                f"there is a script for {name!r}, which is no step of {plan.pipeline.name!r}; its "
                f"steps are: {', '.join(sorted(_names(plan.block)))}"
            )
    return attrs.evolve(plan, block=block)


def _rescripted(block: Block, scripts: Mapping[str, Script], used: set[str]) -> Block:
    return attrs.evolve(
        block,
        operations=tuple(
            None if operation is None else _played(operation, scripts, used)
            for operation in block.operations
        ),
    )


def _played(operation: Operation, scripts: Mapping[str, Script], used: set[str]) -> Operation:
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
        call = _player(name, scripts[name], streams=streams)
    elif node.step.kind is Kind.THREAD:
        call = _on_the_spot(node.step.call)
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
    """The constants of a call, with tools that would run in a thread on the spot."""
    found = dict(constants)
    for name, value in constants.items():
        if isinstance(value, tuple) and any(isinstance(each, FunctionTool) for each in value):
            found[name] = tuple(
                attrs.evolve(each, thread=False) if isinstance(each, FunctionTool) else each
                for each in value
            )
    return found


def _player(name: str, script: Script, *, streams: bool) -> Callable[..., Any]:
    """A function that does what the script says, whatever it is called with."""
    scripts = script.scripts if isinstance(script, Attempts) else (script,)
    for each in scripts:
        given: object = each
        if not isinstance(given, Gives | Fails | Streams | Hangs):
            right = f"Streams(((0.0, {given!r:.80}),))" if streams else f"Gives({given!r:.80})"
            raise DefinitionError(
                f"step {name!r} is scripted with {given!r:.80}, and a script says what the step "
                f"does: {right}, or one of Fails, Hangs and Attempts"
            )
        if isinstance(each, Gives if streams else Streams):
            what = "a stream" if streams else "one value"
            right = "Streams" if streams else "Gives"
            raise DefinitionError(
                f"step {name!r} gives {what}: script it with {right}, not {each!r}"
            )
    attempts = AttemptCounter()

    def this() -> Script:
        return scripts[min(attempts.next(), len(scripts)) - 1]

    async def value(*_: object, **__: object) -> object:
        return await _value(this())

    async def stream(*_: object, **__: object) -> AsyncGenerator[object, None]:
        said = this()
        if not isinstance(said, Streams):
            await _value(said)  # which fails, or hangs
            raise AssertionError("checked above")  # noqa: TRY004  # pragma: no cover
        for after_s, chunk in said.chunks:
            await trio.sleep(after_s)
            yield chunk
        await trio.sleep(said.end_s)
        if said.error is not None:
            raise _anew(said.error)

    return stream if streams else value


async def _value(script: Script) -> object:
    if isinstance(script, Hangs):
        await trio.sleep_forever()
    assert isinstance(script, Gives | Fails), "checked in `_player`"
    await trio.sleep(script.after_s)
    if isinstance(script, Fails):
        raise _anew(script.error)
    return script.value


def _anew(error: Exception) -> Exception:
    """An error that is raised in many runs, without the tracebacks of those before."""
    return error.with_traceback(None)


def _names(block: Block) -> set[str]:
    names = set()
    for operation in block.operations:
        if operation is not None:
            names.add(operation.name)
            names |= _names(operation.body) if operation.body is not None else set()
    return names
