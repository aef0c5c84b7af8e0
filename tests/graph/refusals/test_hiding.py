"""A variable that hides a step of its name: it is told, and with another name it is all right."""

from __future__ import annotations

import pytest

import orchestra
from orchestra.errors import DefinitionError
from tests.graph.written import Written, written

STEPS = """
@step
def loud(text: str) -> str: return text.upper()
@step
def parts(text: str) -> list[str]: return text.split()
@pipeline
def inner(text: str) -> str: return loud(text)
"""

HIDING = [
    "def p(q: str) -> Any:\n    NAME = loud(q)  # HERE\n    return NAME",
    "def p(q: str) -> Any:\n    NAME: str = loud(q)  # HERE\n    return NAME",
    "def p(q: str) -> Any:\n    return loud((NAME := loud(q)))  # HERE",
    "def p(q: str) -> Any:\n    NAME = q\n    return loud(NAME)  # HERE",
    "def p(q: str) -> Any:\n    NAME = parts(q)\n    return loud(NAME[0])  # HERE",
    "def p(NAME: str) -> Any:\n    return loud(NAME)  # HERE",
    "def p(q: str) -> Any:\n    return each(parts(q), lambda NAME: loud(NAME), at_once=2)  # HERE",
    "def helped(NAME): return loud(NAME)  # HERE\n@pipeline\ndef p(q: str): return helped(q)",
    "def p(q: str) -> Any:\n    NAME, more = inner(q), q  # HERE\n    return [NAME, more]",
]


def defined(source: str) -> Written:
    head = "" if "@pipeline" in source else "@pipeline\n"
    return written(STEPS + head + source)


@pytest.mark.parametrize("source", HIDING)
def test_a_variable_with_the_name_of_a_step_is_told_and_another_name_is_right(source: str) -> None:
    name = "inner" if "inner(" in source else "loud"
    with pytest.raises(DefinitionError) as caught:
        defined(source.replace("NAME", name))
    said = str(caught.value)
    kind = "pipeline" if name == "inner" else "step"
    assert f"hides the {kind} {name!r} of the module" in said
    assert f"such as `{name}_`, and call {name}(...)" in said
    right = defined(source.replace("NAME", f"{name}_"))
    assert said.startswith("<written ")
    assert said.partition(": `")[0].endswith(right.where("HERE").partition(">")[2])
    assert "A" in str(orchestra.run(right["p"], "a"))


def test_a_variable_without_a_value_that_hides_no_step_is_pythons_own_matter() -> None:
    with pytest.raises(UnboundLocalError):
        defined("def p(q: str) -> Any:\n    other = loud(other)\n    return other")


def test_a_wire_that_is_called_and_hides_nothing_is_refused_as_any_other() -> None:
    with pytest.raises(DefinitionError, match="`q` cannot be called"):
        defined("def p(q: Any) -> Any:\n    return q(1)")
