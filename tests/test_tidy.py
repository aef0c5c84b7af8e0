"""Our own code keeps the house style, and each rule of it bites."""

from __future__ import annotations

import ast
from statistics import median

import pytest

from tests import tidy
from tests.tidy import ANY, BREAKS, FILE_LINES_MEDIAN, ROOT, RULES, Rule, Source

PROJECT = tidy.project()


@pytest.mark.parametrize("source", PROJECT, ids=lambda source: source.path)
def test_every_file_keeps_the_house_style(source: Source) -> None:
    assert "\n".join(tidy.findings(source)) == ""


def test_the_usual_file_is_short() -> None:
    ours = [source for source in PROJECT if source.path.startswith("orchestra/") and source.text]
    assert median(len(source.text.splitlines()) for source in ours) <= FILE_LINES_MEDIAN


def test_what_is_excused_is_still_there() -> None:
    """An exception that has become unnecessary is taken off the list."""
    paths = {source.path: source for source in PROJECT}
    for place in ANY:
        path, _, name = place.rpartition(":")
        assert "Any" in paths[path].text, place
        assert name in paths[path].text, place
    rules = {rule.__name__: rule for rule in RULES}
    for place in BREAKS:
        path, _, name = place.rpartition(": ")
        assert list(rules[name](paths[path])), f"{place} is mended: take it off BREAKS"


LONG = "def f():\n" + "    x = 1\n" * 60

BAD: list[tuple[Rule, str, str]] = [
    (tidy.file_length, "orchestra/a.py", "x = 1\n" * 401),
    (tidy.function_length, "orchestra/a.py", LONG),
    (tidy.function_length, "orchestra/a.py", "class C:\n    async " + LONG.replace("\n", "\n    ")),
    (tidy.folders, "orchestra/server/openapi/deep/a.py", ""),
    (tidy.docstrings, "orchestra/a.py", "x = 1"),
    (tidy.docstrings, "orchestra/a.py", '"""M."""\ndef f(): ...'),
    (tidy.docstrings, "orchestra/a.py", '"""M."""\nclass C: ...'),
    (tidy.docstrings, "orchestra/a.py", '"""M."""\nclass C:\n """C."""\n async def f(self): ...'),
    (tidy.raises, "orchestra/a.py", "raise ValueError"),
    (tidy.raises, "orchestra/a.py", "raise errors.RunError()"),
    (tidy.raises, "orchestra/a.py", "raise KeyError from error"),
    (tidy.channels, "orchestra/a.py", "trio.open_memory_channel(math.inf)"),
    (tidy.channels, "orchestra/a.py", "trio.open_memory_channel[int](float('inf'))"),
    (tidy.channels, "orchestra/a.py", "open_memory_channel(max_buffer_size=inf)"),
    (tidy.channels, "orchestra/a.py", "open_memory_channel(number)"),
    (tidy.channels, "orchestra/a.py", "open_memory_channel(None)"),
    (tidy.prints, "orchestra/graph/a.py", "print(1)"),
    (tidy.sleeps, "tests/test_a.py", "time.sleep(1)"),
    (tidy.sleeps, "tests/test_a.py", "async def f():\n await trio.sleep(1)"),
    (tidy.sleeps, "tests/test_a.py", "clock = MockClock()\ntime.sleep(1)"),
    (tidy.generators, "orchestra/a.py", "async def f():\n yield 1"),
    (tidy.generators, "orchestra/a.py", "class C:\n async def f(self):\n  if x:\n   yield 1"),
    (tidy.generators, "pipelines/a.py", "@pipeline\nasync def f():\n yield 1"),
    (tidy.anys, "orchestra/graph/a.py", "def f(x: Any) -> None: ..."),
    (tidy.anys, "orchestra/codecs/a.py", "def f() -> dict[str, Any]: ..."),
    (tidy.anys, "orchestra/values.py", "class C:\n x: typing.Any"),
    (tidy.anys, "orchestra/events.py", "T: TypeAlias = list[Any]"),
    (tidy.anys, "orchestra/graph/a.py", "def f() -> Coroutine[Any, Any, Any]: ..."),
    (tidy.anys, "orchestra/graph/a.py", "@overload\ndef f(x: Any) -> T: ..."),
]


@pytest.mark.parametrize(("rule", "path", "text"), BAD)
def test_a_rule_bites(rule: Rule, path: str, text: str) -> None:
    source = Source(path, text)
    assert list(rule(source))
    assert tidy.findings(source), f"{rule.__name__} is not applied to {path}"


GOOD: list[tuple[Rule, str, str]] = [
    (tidy.file_length, "orchestra/a.py", "x = 1\n" * 400),
    (tidy.function_length, "orchestra/a.py", "def f():\n" + "    x = 1\n" * 59),
    (tidy.folders, "orchestra/server/openapi/a.py", ""),
    (tidy.docstrings, "orchestra/graph/__init__.py", ""),
    (tidy.docstrings, "orchestra/a.py", '"""M."""\ndef _f(): ...\nclass _C: ...'),
    (tidy.docstrings, "orchestra/a.py", '"""M."""\n@overload\ndef f(): ...\ndef f(): "F."'),
    (tidy.raises, "orchestra/a.py", "raise"),
    (tidy.raises, "orchestra/a.py", "raise error"),
    (tidy.raises, "orchestra/a.py", "raise trio.EndOfChannel from None"),
    (tidy.raises, "orchestra/a.py", "raise ValueError('x')"),
    (tidy.channels, "orchestra/a.py", "open_memory_channel(0)"),
    (tidy.channels, "orchestra/a.py", "open_memory_channel(self.chunks_max)"),
    (tidy.prints, "orchestra/cli/a.py", "print(1)"),
    (tidy.sleeps, "tests/test_a.py", "clock = MockClock()\ntrio.sleep(1)"),
    (tidy.generators, "orchestra/a.py", "async def _f():\n yield 1"),
    (tidy.generators, "orchestra/a.py", "@asynccontextmanager\nasync def f():\n yield 1"),
    (tidy.generators, "orchestra/a.py", "@step(thread=False)\nasync def f():\n yield 1"),
    (tidy.generators, "orchestra/a.py", "async def f():\n def g():\n  yield 1"),
    (tidy.anys, "orchestra/engine/a.py", "def f(x: Any) -> None: ..."),
    (tidy.anys, "orchestra/graph/a.py", "def f(x: Step[..., Any]) -> Coroutine[Any, Any, T]: ..."),
    (tidy.anys, "orchestra/graph/a.py", "@overload\ndef f() -> T: ...\ndef f() -> Any: ..."),
    (tidy.anys, "orchestra/graph/a.py", "if kind is Any:\n x = Any"),
    (tidy.anys, "orchestra/events.py", "class Delta:\n chunk: Any"),
]


@pytest.mark.parametrize(("rule", "path", "text"), GOOD)
def test_a_rule_leaves_right_code_alone(rule: Rule, path: str, text: str) -> None:
    applies = RULES[rule](path)
    assert not (applies and list(rule(Source(path, text))))


def test_an_override_is_documented_by_what_it_overrides() -> None:
    base = 'class Base(Root): ...\nclass Root:\n """R."""\n def f(self): "What you get."'
    override = '"""M."""\nclass C(a.Base[int]):\n """C."""\n def f(self): ...\n def g(self): ...'
    classes = {n.name: n for n in Source("", base).nodes if isinstance(n, ast.ClassDef)}
    source = Source("orchestra/a.py", override, lambda: classes)
    found = [what for _, what in tidy.docstrings(source)]
    assert found == ["C.g has no docstring"]


def test_every_rule_has_an_example_that_it_bites() -> None:
    assert {rule for rule, _, _ in BAD} == set(RULES)
    assert {rule for rule, _, _ in GOOD} == set(RULES)


def test_the_whole_project_is_looked_at() -> None:
    paths = {source.path for source in PROJECT}
    assert "orchestra/errors.py" in paths
    assert "tests/test_tidy.py" in paths
    assert len(paths) > len(list((ROOT / "orchestra").rglob("*.py")))
