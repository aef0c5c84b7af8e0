"""Handlers around the calls of steps are told of, and what is told to write instead does it."""

from __future__ import annotations

import re

import pytest

import orchestra
from orchestra.compiler.check import check
from orchestra.engine.engine import open_engine
from orchestra.errors import DeadlineError, DefinitionError
from orchestra.testing.simulate import simulate
from orchestra.testing.virtual import virtual
from tests.graph.written import Written

STEPS = """
import contextlib, trio
from contextlib import suppress
from orchestra.errors import DeadlineError
@step
async def boom(text: str) -> str: raise ValueError(text)
@step
async def slow(text: str) -> str:
    await trio.sleep(10)
    return text
@step
async def up(text: str) -> str: return text.upper()
def looked_up(text):
    return {"a": text}[text]
"""


def defined(body: str) -> Written:
    return Written(f"{STEPS}@pipeline\ndef p(text: str) -> Any:\n{body}").run()


ADVISED = {
    "a return": (
        "    try:\n        return boom(text)\n    except ValueError:\n        return 'sorry'",
        'fallback(boom(text), "sorry", on=ValueError)',
        "sorry",
    ),
    "an assignment": (
        "    try:\n        x = up(boom(text))\n    except (KeyError, ValueError) as e:\n        x = text"
        "\n    return x",
        "fallback(up(boom(text)), text, on=(KeyError, ValueError))",
        "a",
    ),
    "an assignment with a type": (
        "    try:\n        x: str = up(boom(text))\n    except ValueError:\n        x = text\n"
        "    return x",
        "fallback(up(boom(text)), text, on=ValueError)",
        "a",
    ),
    "suppress": (
        "    with contextlib.suppress(ValueError):\n        return boom(text)",
        "fallback(boom(text), None, on=ValueError)",
        None,
    ),
    "suppress several": (
        "    with suppress(KeyError, ValueError):\n        x = boom(text)\n    return x",
        "fallback(boom(text), None, on=(KeyError, ValueError))",
        None,
    ),
}


@pytest.mark.parametrize("name", ADVISED)
def test_a_handler_around_a_step_is_told_of_with_what_does_it(name: str) -> None:
    body, advice, gives = ADVISED[name]
    module = defined(body)
    (problem,) = check(module["p"])
    assert problem.code == "handler-unfit"
    assert "which runs later, when the pipeline runs" in problem.message
    assert problem.where.startswith(module.filename)
    assert advice in problem.fix.replace("'", '"')
    assert simulate(defined(f"    return {advice}")["p"], text="a").value == gives


def test_of_a_statement_that_gives_nothing_the_call_is_what_may_fail() -> None:
    body = "    try:\n        boom(text)\n    except ValueError:\n        pass\n    return text"
    told = {each.code: each.fix for each in check(defined(body)["p"])}
    assert "write `fallback(boom(text), ..., on=ValueError)`" in told["handler-unfit"]


@pytest.mark.parametrize("scope", ["fail_after", "move_on_after"])
@pytest.mark.parametrize("inside", [False, True], ids=["before Trio runs", "while Trio runs"])
def test_a_scope_of_time_around_a_step_is_told_of_with_what_bounds_it(
    scope: str, inside: bool
) -> None:
    body = f"    with trio.{scope}(2):\n        return slow(text)"

    async def main() -> str:
        return str(check(defined(body)["p"])[0])

    if inside:
        told = virtual(main)
    else:
        with pytest.raises(DefinitionError) as caught:
            defined(body)
        told = str(caught.value)
    assert f"`with trio.{scope}(2)` does not bound the time of slow(...)" in told
    advice = "slow.using(Policy(timeout_s=2))(text)"
    if scope == "move_on_after":
        advice = f"fallback({advice}, None, on=DeadlineError)"
    found = re.search("write `(.*?)`, or", told)
    assert found is not None
    assert found.group(1) == advice
    simulation = simulate(defined(f"    return {advice}")["p"], text="a")
    assert simulation.lasted_s == 2
    assert isinstance(simulation.error, DeadlineError) == (scope == "fail_after")


@pytest.mark.parametrize(
    "body",
    [
        "    try:\n        import nothing_of_this_name\n    except ImportError:\n        text = up(text)"
        "\n    return text",
        "    try:\n        word = looked_up('b')\n    except KeyError:\n        word = 'b'\n    return "
        "prompt(word + '{text}', text=up(text))",
        "    try:\n        word = looked_up('a')\n    except KeyError:\n        word = 'b'\n    else:\n"
        "        word = up(word)\n    return [word, text]",
        "    try:\n        return up(text)\n    finally:\n        print(end='')",
        "    with contextlib.nullcontext():\n        return up(text)",
        "    return [up(text) for _ in range(2)]",
    ],
)
def test_a_handler_around_what_is_no_step_is_nobodys_business(body: str) -> None:
    assert check(defined(body)["p"]) == ()


def test_a_handler_in_a_helper_or_an_inner_pipeline_is_told_of_once() -> None:
    module = Written(
        STEPS
        + "def helped(text):\n    try:\n        return up(boom(text))\n    except ValueError:\n"
        "        return text\n"
        "@pipeline\ndef inner(text: str) -> str: return helped(text)\n"
        "@pipeline\ndef p(text: str) -> str: return inner(text)\n"
        "try:\n    @pipeline\n    def fine(text: str) -> str:\n"
        "        with contextlib.nullcontext(): return up(text)\n"
        "except ValueError: pass\n"
    ).run()
    for name in ("inner", "p"):
        (problem,) = check(module[name])
        assert "fallback(up(boom(text)), text, on=ValueError)" in problem.fix
    assert check(module["fine"]) == ()


def test_an_error_of_trios_that_is_about_no_step_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="must be called from async context"):
        defined("    trio.current_time()\n    return up(text)")


def test_a_deadline_that_bounds_nothing_is_told_of_with_what_bounds_it() -> None:
    inner = "@pipeline(deadline_s=1)\ndef inner(text: str) -> str: return slow(text)\n"
    outer = "def p(text: str) -> str: return inner(text)  # HERE"
    module = Written(f"{STEPS}{inner}@pipeline\n{outer}").run()
    (problem,) = check(module["p"])
    assert problem.code == "deadline-unfit"
    assert problem.where == module.where("HERE")
    assert "'inner' has deadline_s=1, which bounds only its own runs" in problem.message
    assert "write @pipeline(deadline_s=1) on 'p'" in problem.fix
    followed = Written(f"{STEPS}{inner}@pipeline(deadline_s=1)\n{outer}").run()["p"]
    simulation = simulate(followed, text="a")
    assert isinstance(simulation.error, DeadlineError)
    assert simulation.lasted_s == 1
    other = outer.replace("inner(text)", "inner.using(deadline_s=None)(text)")
    assert simulate(Written(f"{STEPS}{inner}@pipeline\n{other}").run()["p"], text="a").value == "a"
    longer = Written(f"{STEPS}{inner}@pipeline(deadline_s=5)\n{outer}").run()["p"]
    assert [each.code for each in check(longer)] == ["deadline-unfit"]


@pytest.mark.parametrize("given", ["up", "looked_up"])
def test_who_runs_what_is_no_pipeline_is_shown_the_pipeline(given: str) -> None:
    module = Written(STEPS).run()

    async def main() -> None:
        async with open_engine() as engine:
            engine.plan(module[given])

    async def run() -> None:
        async with open_engine() as engine:
            await engine.run(module[given], text="a")

    told = []
    for ask in (
        lambda: check(module[given]),
        lambda: simulate(module[given], text="a"),
        lambda: orchestra.run(module[given], text="a"),
        lambda: virtual(main),
        lambda: virtual(run),
    ):
        with pytest.raises(DefinitionError, match=f"{given!r} is not a pipeline") as caught:
            ask()
        told.append(str(caught.value))
    lines = told[0].splitlines()[1:]
    wrapped = "\n".join(line.removeprefix("    ") for line in lines)
    steps = STEPS.replace("def looked_up", "@step\ndef looked_up")
    followed = Written(f"{steps}{wrapped}").run()[f"run_{given}"]
    assert str(simulate(followed, text="a").value).lower() == "a"


def test_what_is_nothing_like_a_pipeline_is_told_what_one_is() -> None:
    nothing: object = "p"
    with pytest.raises(DefinitionError, match="'p' is not a pipeline: a pipeline is a function"):
        check(nothing)  # type: ignore[arg-type]
