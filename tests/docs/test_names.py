"""Pages that name much of orchestra in passing name what there is: settings, functions, options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from orchestra.cli import app
from orchestra.config.toml import spec
from tests.docs import test_api, test_settings
from tests.server.openapi.test_description import routes

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("coming-from.md", "troubleshooting.md", "security.md")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
NOT_OURS = {partial.__name__, "trio", "given"}
CLI = DOCS.parent / "orchestra" / "cli"
README = DOCS.parent / "README.md"
ALL = "\n".join(page.read_text("utf-8") for page in (README, *DOCS.glob("*.md")))
SOURCES = "\n".join(path.read_text("utf-8") for path in CLI.rglob("*.py"))


def quoted(page: str) -> Iterator[str]:
    """What the page says is ours, in backticks: of the tables of others the last column."""
    for line in FENCED.sub("", (DOCS / page).read_text("utf-8")).splitlines():
        cells = re.split(r"(?<!\\)\|", line)
        ours = cells[-2] if len(cells) > 2 and page == "coming-from.md" else line
        yield from re.findall(r"`([^`]+)`", ours)


@pytest.mark.parametrize("page", PAGES)
def test_tables_and_keys_of_the_file_are_there(page: str) -> None:
    keys = {key for _, key in test_settings.expected()}
    keys |= {part for name, _ in test_settings.tables() for part in name.split(".")}
    for text in quoted(page):
        if table := re.match(r"\[([a-z]+)[.\w]*\]$", text):
            assert table[1] in spec.TABLES, text
        if re.match(r"\w+ = \S", text):
            assert {*re.findall(r"\b([a-z_]+) = ", text)} - {"eu"} <= keys, text


@pytest.mark.parametrize("page", PAGES)
def test_functions_and_classes_are_there(page: str) -> None:
    known = {name for _, name in test_api.told()} | NOT_OURS
    methods = re.compile(r"(?<![.\w])([A-Za-z]\w{2,})(?:\.\w+)?\(")
    for text in quoted(page):
        if not text.startswith(("POST", "asyncio", "[")):
            assert {*methods.findall(text)} <= known, text


@pytest.mark.parametrize("page", PAGES)
def test_options_of_commands_are_there(page: str) -> None:
    for text in quoted(page):
        for option in re.findall(r"--([a-z-]+)", text):
            assert re.search(rf"\b{option.replace('-', '_')}\b", SOURCES), option
        if command := re.match(r"orchestra (\w+)", text):
            assert any(CLI.rglob(f"{command[1]}.py")), text


@pytest.mark.parametrize("command", app._usages())
def test_every_command_is_on_a_page(command: str) -> None:
    assert f"orchestra {command}" in ALL, (
        f"neither README.md nor docs/ explains `orchestra {command}`"
    )


@pytest.mark.parametrize("path", sorted({route.template for route in routes()}))
def test_every_route_is_on_a_page(path: str) -> None:
    written = re.sub(r"\\{\w+\\}", r"[^/\\s`]+", re.escape(path))
    assert re.search(rf"{written}(?![\w/])", ALL), (
        f"neither README.md nor docs/ explains the route {path}"
    )
