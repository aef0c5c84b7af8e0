"""`python tests/docs/include.py`: write the files that documents include into them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
INCLUDED = re.compile(r"(<!-- file: (\S+) -->\n```\w+\n).*?^```", re.DOTALL | re.MULTILINE)


def main() -> None:
    """Rewrite every document whose included files have changed."""
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = document.read_text()
        written = INCLUDED.sub(lambda m: m[1] + (ROOT / m[2]).read_text() + "```", text)
        if written != text:
            document.write_text(written)


if __name__ == "__main__":
    main()
