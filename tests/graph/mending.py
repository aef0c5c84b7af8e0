"""Mending: a pipeline is changed as its refusals say, until it is not refused any more.

The same function is also run as ordinary Python, on values: what the mended pipeline gives
must be what the refused one was meant to give.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import cast

import attrs
import trio

from orchestra.engine.engine import open_engine
from orchestra.errors import DefinitionError
from orchestra.graph.pipelines import Pipeline
from orchestra.values import Label, Passage
from tests.graph.written import Written

STEPS = """
VERSION = 3
@step
def shout(text: str) -> str:
    return text + "!"
@step
def pair_up(first: str, second: str) -> str:
    return first + second
@step
def double(number: int) -> int:
    return number * 2
@step
def words(text: str) -> list[str]:
    return text.split()
@pipeline
def inner(text: str) -> str:
    return shout(text)
@step
def many(texts: list[str]) -> str:
    return "+".join(texts)
"""
GENERATE = """
import attrs
from orchestra.steps import generate
@attrs.frozen
class Found:
    name: str
"""
TAKES = {
    "q": "str",
    "n": "int",
    "m": "int",
    "flag": "bool",
    "maybe": "str | None",
    "texts": "list[str]",
    "pair": "tuple[str, str]",
    "opts": "dict[str, str]",
    "passages": "list[Passage]",
    "label": "Label",
}
VALUES: Mapping[str, object] = {
    "q": "why not",
    "n": 3,
    "m": 5,
    "flag": True,
    "maybe": None,
    "texts": ["b", "a", "c"],
    "pair": ("left", "right"),
    "opts": {"first": "1", "second": "2"},
    "passages": [Passage("1", "one", score=0.5), Passage("2", "two", score=0.25)],
    "label": Label("how-to", 0.9),
}
_PLAIN = "step = pipeline = lambda function: function\nprompt = prompt.call\n"


@attrs.frozen
class Refusal:
    """A refusal's text, taken apart."""

    where: str
    says: str
    wrong: str
    right: str
    step: str


def taken_apart(message: str) -> Refusal:
    """The parts of a refusal."""
    head, *rest = message.split("\n")
    where, _, says = head.partition(": `")
    parts: dict[str, list[str]] = {"wrong": [], "right": [], "where": []}
    title = ""
    for line in rest:
        found = re.match(r"    (wrong|right|where): ", line)
        title = found.group(1) if found else title
        parts[title].append(line[11:])
    wrong, right, step = ("\n".join(parts[name]) for name in ("wrong", "right", "where"))
    return Refusal(where, "`" + says, wrong, right, step)


def function(body: str) -> str:
    """A pipeline's function with this body, and the inputs that are used in it."""
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    takes = ", ".join(f"{name}: {kind}" for name, kind in TAKES.items() if name in used)
    return f"@pipeline\ndef refused({takes}):\n" + textwrap.indent(body, "    ")


def refusal(body: str) -> Refusal:
    """The refusal of a pipeline with this body."""
    try:
        Written(STEPS + function(body)).run()
    except DefinitionError as error:
        return taken_apart(str(error))
    raise AssertionError(f"not refused:\n{body}")


def meant(body: str, values: Mapping[str, object] = VALUES) -> object:
    """What the body gives as ordinary Python."""
    defined = Written(_PLAIN + STEPS + function(body)).run()["refused"]
    return defined(**{name: values[name] for name in inspect.signature(defined).parameters})


def mended(body: str) -> Pipeline[..., object]:
    """The pipeline, after every refusal has been followed: fewer than the body has parts."""
    steps = STEPS
    for _ in ast.walk(ast.parse(body)):
        module = Written(steps + function(body))
        try:
            return cast("Pipeline[..., object]", module.run()["refused"])
        except DefinitionError as error:
            told = taken_apart(str(error))
            if "..." in told.right or "some_step" in told.right:
                raise AssertionError(f"only general advice: {error}") from error
            body = _followed(body, told, module)
            steps += told.step + "\n"
    raise AssertionError(f"refused for each of its parts, and still is:\n{steps}{body}")


def _followed(body: str, told: Refusal, module: Written) -> str:
    """The body with the statement that was refused replaced by the right one."""
    top = next(n for n, text in enumerate(module.source.splitlines(), 1) if "def refused" in text)
    here = int(told.where.rpartition(":")[2]) - top
    nodes = (node for node in ast.walk(ast.parse(body)) if isinstance(node, ast.stmt))
    around = [node for node in nodes if node.lineno <= here <= (node.end_lineno or 0)]
    statement = min(around, key=lambda node: (node.end_lineno or 0) - node.lineno)
    lines = body.splitlines()
    indent = " " * statement.col_offset
    right = textwrap.indent(told.right, indent).splitlines()
    lines[statement.lineno - 1 : statement.end_lineno] = right
    return "\n".join(lines)


def result(pipeline: Pipeline[..., object], values: Mapping[str, object] = VALUES) -> object:
    """The result of a run; a problem of the pipeline is raised."""

    async def main() -> object:
        async with open_engine() as engine:
            return await engine.run(
                pipeline, **{name: values[name] for name in pipeline.inputs if name in values}
            )

    return trio.run(main)
