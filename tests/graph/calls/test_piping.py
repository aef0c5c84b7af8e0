"""`a | b` joins nothing here, and is told as the call that it means."""

from __future__ import annotations

import pytest

from orchestra.compiler.check import check
from orchestra.errors import DefinitionError
from tests.graph.written import written

STEPS = """
@step
async def loud(text: str) -> str: return text.upper()
@step
async def size(text: str) -> int: return len(text)
@pipeline
def inner(text: str) -> str: return loud(text)
"""


@pytest.mark.parametrize(
    ("piped", "called"),
    [
        ("q | loud", "loud(q)"),
        ("loud(q) | size", "size(loud(...))"),
        ("q | inner", "inner(q)"),
        ("loud | size", "size(loud(...))"),
        ("inner | size", "size(inner(...))"),
        ("loud | inner | size", "inner(loud(...))"),
        ("(lambda text: text) | loud", "loud(some_step(...))"),
        ("inner | (lambda text: text)", "some_step(inner(...))"),
    ],
)
def test_a_pipe_is_told_as_a_call(piped: str, called: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        written(f"{STEPS}@pipeline\ndef p(q: str) -> Any:\n    return {piped}")
    assert "steps are not joined by `|`; call one with the result of the" in str(caught.value)
    assert str(caught.value).endswith(f"in a function decorated with @pipeline: `{called}`")
    if "some_step" not in called:
        right = called.replace("(...)", "(q)")
        assert not check(written(f"{STEPS}@pipeline\ndef p(q: str): return {right}")["p"])


def test_what_is_no_step_is_calculated_with_as_ever() -> None:
    with pytest.raises(DefinitionError, match="`q` cannot be calculated with"):
        written("@pipeline\ndef p(q: int): return q | 1")
