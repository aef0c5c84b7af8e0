"""Homes: a public name that is looked for in another module is told with its own."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import orchestra
import orchestra.steps
import orchestra.testing
from orchestra import errors
from orchestra.homes import _INSTEAD, PUBLIC, home_of
from tests.docs.test_api import told

NAMES = {(name, module) for module, name in told()} | {
    (name, errors.__name__) for name in vars(errors) if name.endswith("Error")
}


def test_the_public_modules_are_those_of_the_page() -> None:
    assert set(PUBLIC) == {module for _, module in NAMES}


def test_every_public_name_has_its_home() -> None:
    for name, module in NAMES:
        home = home_of(name)
        assert home is not None, name
        assert getattr(import_module(home), name) is getattr(import_module(module), name)


@given(
    st.sampled_from(sorted(NAMES)), st.sampled_from([orchestra, orchestra.steps, orchestra.testing])
)
def test_a_name_that_is_imported_from_a_front_door_is_there_or_told_with_its_home(
    named: tuple[str, str], door: ModuleType
) -> None:
    name, _ = named
    found: dict[str, object] = {}
    said = refused(f"from {door.__name__} import {name}", found)
    if said:
        assert said.startswith(f"{name!r} is not in {door.__name__!r}; write `from orchestra")
        with pytest.raises(AttributeError, match=f"write `from orchestra.* import {name}`"):
            getattr(door, name)
        assert not refused(said.split("`")[1], found)
    assert name in found


@pytest.mark.parametrize("name", [*_INSTEAD])
@pytest.mark.parametrize("door", ["orchestra", "orchestra.steps"])
def test_a_name_of_another_framework_is_told_with_what_is_used_here(door: str, name: str) -> None:
    said = refused(f"from {door} import {name}", {})
    assert said.startswith(f"{name!r} is not in {door!r}; write `from orchestra")
    assert not refused(said.split("`")[1], {})
    with pytest.raises(AttributeError, match="write `from orchestra"):
        getattr(import_module(door), name)


def refused(line: str, found: dict[str, object]) -> str:
    """What an import is refused with; empty where it is not."""
    try:
        exec(line, found)
    except ImportError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["Path", "T", "_names", "run(", "", "The", "def", "generat"])
def test_what_is_no_public_name_has_no_home(name: str) -> None:
    assert home_of(name) is None
    for door in (orchestra, orchestra.steps, orchestra.testing):
        with pytest.raises(AttributeError, match="has no attribute"):
            getattr(door, name)


def test_a_module_is_imported_from_its_package_as_ever() -> None:
    from orchestra.steps import ingest
    from orchestra.testing import world

    assert [type(each) for each in (ingest, world)] == [ModuleType] * 2
