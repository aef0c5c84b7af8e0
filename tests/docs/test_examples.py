"""Every example in the documents is run: Python here, as one module for each document.

A block below `<!-- file: path -->` is that file, word for word (`python tests/docs/include.py`
writes it).
"""

from __future__ import annotations

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_python_in_a_document_runs(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Block after block, in one namespace; tests in it are called."""
    blocks = [m["code"] for m in BLOCK.finditer(document.read_text()) if not m["file"]]
    path = tmp_path / f"{document.stem.replace('-', '_').lower()}_examples.py"
    path.write_text("\n\n".join(blocks))
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)  # as of who has imported it
    spec.loader.exec_module(module)
    for name, value in list(vars(module).items()):
        if name.startswith("test_"):
            value()


INCLUDED = re.compile(
    r"<!-- file: (?P<file>\S+) -->\n```\w+\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_an_included_file_is_the_file(document: Path) -> None:
    """What a document shows of a file is what the file says."""
    for match in INCLUDED.finditer(document.read_text()):
        assert match["text"] == (ROOT / match["file"]).read_text(), match["file"]
