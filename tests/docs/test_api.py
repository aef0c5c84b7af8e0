"""`docs/api.md` names everything public, where it is, and with the defaults that it has."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import attrs
import pytest

import orchestra
import orchestra.steps
from orchestra import Engine, Limits, Policy, Retry, errors
from orchestra.engine.run import Run
from orchestra.messages import OwnError

PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text("utf-8")
HEADING = re.compile(r"^##+ (?:`(?P<module>orchestra[\w.]*)`)?", re.MULTILINE)
NAMES = re.compile(r"^\| (?P<names>`\w+`(?:, `\w+`)*) \| (?:`(?P<module>orchestra[\w.]*)` \|)?")
FIELD = re.compile(r"^\| `(\w+)` \| (`[^`]*`|required) \|", re.MULTILINE)
ENTRY = re.compile(
    r"^(?P<indent>[│ ]*)(?:[├└]── )?(?P<name>\w+Error)\b(?P<about>.*)$", re.MULTILINE
)


def told() -> Iterator[tuple[str, str]]:
    """Each name on the page with its module: that of its row, or of its heading."""
    module = ""
    for line in PAGE.splitlines():
        if heading := HEADING.match(line):
            module = heading["module"] or ""
        elif (row := NAMES.match(line)) and (found := row["module"] or module):
            yield from ((found, name) for name in re.findall(r"\w+", row["names"]))


def section(title: str) -> str:
    """What stands below a heading, to the next."""
    return PAGE.partition(f"# {title}\n\n")[2].partition("\n#")[0]


@pytest.mark.parametrize("module", [orchestra, orchestra.steps], ids=lambda each: each.__name__)
def test_all_that_a_front_door_exports_is_on_the_page(module: object) -> None:
    name = str(module.__name__)  # type: ignore[attr-defined]
    exported = {(name, each) for each in module.__all__}  # type: ignore[attr-defined]
    missing = exported - {*told()}
    assert not missing, f"docs/api.md has no row for {missing}"


@pytest.mark.parametrize(("module", "name"), sorted({*told()}))
def test_a_name_is_where_the_page_says(module: str, name: str) -> None:
    there = hasattr(import_module(module), name)
    assert there, f"docs/api.md names {module}.{name}, which does not exist"


@pytest.mark.parametrize("kind", [Policy, Retry, Limits])
def test_every_field_has_its_default(kind: type[attrs.AttrsInstance]) -> None:
    fields = {
        field.name: "required" if field.default is attrs.NOTHING else f"`{field.default!r}`"
        for field in attrs.fields(kind)
    }
    assert dict(FIELD.findall(section(f"`{kind.__name__}`"))) == fields


@pytest.mark.parametrize("kind", [Engine, Run])
def test_what_can_be_asked_of_it_is_there(kind: type) -> None:
    asked = set(re.findall(rf"\b{kind.__name__.lower()}\.(\w+)", section("Engines and runs")))
    made = set(re.findall(r"\bself\.(\w+) = ", inspect.getsource(kind.__init__)))  # type: ignore[misc]
    assert asked
    assert asked <= made | {*dir(kind)}


def tree() -> str:
    """The tree of errors, as the page shows it."""
    return section("`orchestra.errors`").partition("```\n")[2].partition("```")[0].rstrip()


def test_the_tree_of_errors_is_that_of_the_module() -> None:
    assert dedent(str(errors.__doc__).partition("\n\n")[2].partition("\n\n")[0]).rstrip() == tree()


def test_the_tree_of_errors_is_true() -> None:
    """Of every error: what it inherits from, and what is said of it beside its name."""
    above: list[type[BaseException]] = []
    found = set()
    for entry in ENTRY.finditer(tree()):
        kind = getattr(errors, entry["name"])
        depth = (entry.start("name") - entry.start()) // 4
        assert kind.__bases__[0] is (above[depth - 1] if depth else OwnError), kind
        about = entry["about"]
        late = issubclass(kind, TimeoutError)
        assert ("also a TimeoutError" in about) == late, kind
        if issubclass(kind, errors.ModelError):
            inherited = bool(depth) and getattr(above[depth - 1], "retryable", False)
            assert (("(retryable)" in about) or inherited) == kind.retryable, kind
        above[depth:] = [kind]
        found.add(kind)
    own = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.OrchestraError)
    }
    assert found == own, f"missing in the tree, or not in the module: {found ^ own}"
