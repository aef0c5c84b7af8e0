"""A link from one document to another leads somewhere: to a file, and to a heading in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    ROOT / "benchmarks/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
PATH = re.compile(r"`((?:\w+/)+[\w.]*)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """What a browser may be sent to in a document: as GitHub makes it of each heading."""
    text = CODE.sub("", document.read_text("utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in HEADING.findall(text)
    }


@pytest.mark.parametrize(
    "document", ["CONTRIBUTING.md", "docs/architecture.md", "docs/decisions.md"]
)
def test_a_path_that_contributors_read_is_there(document: str) -> None:
    """A path of the package may be without `orchestra/`, and a module without `.py`."""
    for path in {*PATH.findall((ROOT / document).read_text("utf-8"))}:
        there = [
            folder / end for folder in (ROOT, ROOT / "orchestra") for end in (path, f"{path}.py")
        ]
        assert any(each.exists() for each in there), f"{document} names {path}, which is not there"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_link_leads_somewhere(document: Path) -> None:
    for name, anchor in LINK.findall(CODE.sub("", document.read_text("utf-8"))):
        target = document.parent / name if name else document
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


def test_the_readme_lists_every_page() -> None:
    listed = {name for name, _ in LINK.findall((ROOT / "README.md").read_text("utf-8"))}
    pages = {f"docs/{each.name}" for each in DOCUMENTS if each.parent.name == "docs"}
    assert pages - listed == set()
