"""Wrong pipelines: every marked line must be reported by both type checkers.

A mark that nothing needs is itself an error in both, so no line here can become right
unnoticed.
"""

from __future__ import annotations

import orchestra
from orchestra import (
    Context,
    Stream,
    best_of,
    collect,
    each,
    fallback,
    injected,
    open_engine,
    pipeline,
    quorum,
    race,
    step,
)
from orchestra.steps import embed, generate, retrieve, tool
from orchestra.testing.simulate import simulate
from orchestra.testing.world import World
from tests.types.right import (
    Bill,
    count,
    counted,
    expert,
    inner,
    longest,
    numbers,
    plain,
    stream,
    streamed,
    through,
    value,
)


@pipeline
def failures(x: int) -> int:
    """Items that may fail, where none may."""
    each([x], value, at_once=2, failures_max="1")  # type: ignore[call-overload]
    return plain(each([x], value, at_once=2, failures_max=1)[0])  # type: ignore[arg-type]


@step
async def parts(x: int, *, context: Context = injected) -> int:
    """Pipelines that a step runs."""
    await context.run(value, x)  # type: ignore[call-overload]
    given: int = await context.run(inner, x)  # type: ignore[call-overload]
    context.stream(inner, x)  # type: ignore[arg-type]
    context.stream(streamed, "x")  # type: ignore[arg-type]
    return given


@pipeline
def edges(x: int, text: str, names: list[str]) -> int:
    """Wires that do not fit."""
    value(text)  # type: ignore[arg-type]
    value(value(x))  # type: ignore[arg-type]
    value(x, faktor=3)  # type: ignore[call-arg]
    value()  # type: ignore[call-arg]
    plain(stream(x))  # type: ignore[arg-type]
    through(collect(stream(x)))  # type: ignore[arg-type]
    through(numbers(x))  # type: ignore[arg-type]
    collect(value(x))  # type: ignore[call-overload]
    each(names, value, at_once=2)  # type: ignore[arg-type]
    each([x], value)  # type: ignore[call-overload]
    each(names, lambda name: value(name + name), at_once=2)  # type: ignore[arg-type]
    each(stream(x), value, at_once=2)  # type: ignore[arg-type]
    value(x, 3)  # type: ignore[call-arg]
    collect(race(value(x), value(x)))  # type: ignore[call-overload]
    through(each(stream(x), plain, at_once=2))  # type: ignore[arg-type]
    race(value(x), value(x), commit=3)  # type: ignore[call-overload]
    race(stream(x), stream(x), validate=len)  # type: ignore[arg-type]
    fallback(value(x), value(x), on=(3,))  # type: ignore[arg-type]
    race(numbers(x), numbers(x), validate=str.isupper)  # type: ignore[arg-type]
    race(value(x), value(x), stagger="soon")  # type: ignore[call-overload]
    race(stream(x), stream(x), hedge_at=("p95",))  # type: ignore[call-overload]
    race(stream(x), stream(x), hedge_at="p95", hedge_share="10 %")  # type: ignore[call-overload]
    quorum(value(x), value(x))  # type: ignore[arg-type]
    quorum(1, value(x), stagger_s="soon")  # type: ignore[arg-type]
    quorum(2, value(x), value(x), agree=str.isupper)  # type: ignore[arg-type]
    quorum(2, plain(text), plain(text), agree=str.startswith)  # type: ignore[arg-type]
    plain(quorum(2, plain(text), plain(text)))  # type: ignore[arg-type]
    best_of(value(x), value(x))  # type: ignore[call-arg]
    best_of(plain(text), plain(text), judge=longest)  # type: ignore[arg-type]
    best_of(plain(text), plain(text), judge=expert)  # type: ignore[arg-type]
    best_of(value(x), value(x), judge=value)  # type: ignore[arg-type]
    best_of(value(x), value(x), judge=lambda said: said[0])  # type: ignore[arg-type, return-value]
    inner(text)  # type: ignore[arg-type]
    retrieve(text, store="docs")  # type: ignore[arg-type]
    retrieve(embed(text))  # type: ignore[call-arg]
    generate(x)  # type: ignore[call-overload]
    generate()  # type: ignore[call-overload]
    generate(text, temprature=0.5)  # type: ignore[call-overload]
    generate(text, temperature=text)  # type: ignore[call-overload]
    generate(text, tools=[text])  # type: ignore[list-item]
    generate(text, returns=Bill, seed=text)  # type: ignore[call-overload]
    generate(text, returns=text)  # type: ignore[call-overload]
    generate(text, reasoning_effort="much")  # type: ignore[call-overload]
    plain(generate(text, returns=Bill))  # type: ignore[arg-type]
    plain(generate(text, returns=Bill).lines)  # type: ignore[arg-type]
    _ = generate(text, returns=Bill).sum  # type: ignore[attr-defined]
    collect(generate(text, returns=Bill))  # type: ignore[call-overload]
    count(x)  # type: ignore[arg-type]
    tool(threads=True)  # type: ignore[call-overload]
    return plain(text)


@pipeline
def returns_a_stream(x: int) -> str:
    """An output that does not fit."""
    return stream(x)  # type: ignore[return-value]


@pipeline
def returns_a_value(x: int) -> Stream[str]:
    """The other way round."""
    return value(x)  # type: ignore[return-value]


@step(thread="yes")  # type: ignore[call-overload, untyped-decorator]
def misspelt(x: int) -> int:
    """A decorator with a wrong argument."""
    return x


def front_door() -> str:
    """Names that are not there."""
    from orchestra import colect  # type: ignore[attr-defined]

    return orchestra.promt(colect)  # type: ignore[attr-defined, no-any-return]


async def runs() -> None:
    """Runs with wrong inputs."""
    async with open_engine() as engine:
        await engine.run(inner, x="1")  # type: ignore[call-overload]
        await engine.run(inner)  # type: ignore[call-overload]
        await engine.run(streamed, 1, lout=True)  # type: ignore[call-arg]
        orchestra.run(inner, y=1)  # type: ignore[call-overload]
        plain(await engine.start(counted, {"x": 1}).result())  # type: ignore[arg-type]
        engine.start(inner, {"x": 1}, deadline="3")  # type: ignore[call-overload]
        value.call(1, faktor=3)  # type: ignore[call-arg, unused-coroutine]


def simulations(world: World) -> None:
    """Simulated runs with wrong inputs, and what is not known of one."""
    simulate(inner, world, x="1")  # type: ignore[call-overload]
    simulate(inner, world)  # type: ignore[call-overload]
    simulate(inner, 1)  # type: ignore[call-overload]
    simulate(streamed, x=1, lout=True)  # type: ignore[call-overload]
    (_found,) = simulate(counted, x=1).value  # type: ignore[misc]
    plain(simulate(counted, x=1).result())  # type: ignore[arg-type]
