"""What `docs/troubleshooting.md` quotes as a symptom is a text of the code's, word for word.

The code is read, not run: of each string the parts that stand in it, in their order.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs import test_problems

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
SYMPTOMS = re.findall(r"^\| (?!symptom)(.*?) \| ", PAGE, re.MULTILINE)
QUOTED = sorted({text for cell in SYMPTOMS for text in re.findall(r"`([^`]+)`", cell)})
VARIES = "\0"
NOT_OURS = {
    *("RuntimeError: no running event loop", "trio.run received unrecognized yield message"),
    *("SQLite says 'database is locked'", "while not done: await trio.sleep(0)"),
    *("[DONE]", 'when_state_fails = "closed"', "async def", "returns=", "commit=complete()"),
    *("Failed building wheel for wordllama", "/readyz"),
    *('"stream": true', "Accept: text/event-stream"),
}
"""What others say, or what a user writes."""


def texts() -> Iterator[str]:
    """Every string of the code but docstrings, with `VARIES` where a value is filled in."""
    for path in (ROOT / "orchestra").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        said = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) not in said:
                yield from written(node)


def written(node: ast.AST) -> Iterator[str]:
    """The string that a node is, or the name of an error."""
    match node:
        case ast.JoinedStr(values=values):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else VARIES for v in values)
        case ast.Constant(value=str(text)):
            yield re.sub(r"%(?:[srd]|\.?\d*[gf])", VARIES, text)
        case ast.ClassDef(name=name):
            yield name


@cache
def all_texts() -> list[str]:
    return [*texts(), *test_problems.codes()]


@pytest.mark.parametrize("text", QUOTED)
def test_a_text_that_is_quoted_is_one_of_the_code(text: str) -> None:
    if text in NOT_OURS:
        return
    parts = [re.escape(part.strip()) for part in text.split("...") if part.strip(" ;,:.")]
    pattern = re.compile(r".*".join(parts), re.DOTALL)
    assert any(pattern.search(each) for each in all_texts()), text
