"""Configurations in the documents are right, and the table in docs/models.md is the catalog.

`python -m tests.docs.test_models` prints the table as it has to be.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestra.config.reading import read
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.keys import AWS_BEARER, AWS_ID, AWS_SECRET
from orchestra.providers.known.provider import AwsScheme, HeaderScheme, Provider

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
EXAMPLES = [
    text
    for document in (
        DOCUMENT,
        *map(DOCUMENT.with_name, ("stores.md", "policies.md", "coming-from.md")),
    )
    for text in re.findall(r"```toml\n(.*?)```", document.read_text("utf-8"), re.DOTALL)
]


def table() -> str:
    """The table of providers, in Markdown."""
    rows = [
        "| `provider` | what it is | the key, by default | its own options | embeds |",
        "|---|---|---|---|---|",
    ]
    for row in (each for each in PROVIDERS.values() if each.seams):
        embeds = "yes" if "embedder" in row.seams else ""
        cells = (f"`{row.name}`", row.about, key(row), options(row), embeds)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def key(row: Provider) -> str:
    if isinstance(row.scheme, AwsScheme):
        return f"`{AWS_BEARER}`, or `{AWS_ID}` and `{AWS_SECRET}`"
    if isinstance(row.scheme, HeaderScheme):
        names = " or ".join(f"`{name}`" for name in row.scheme.env)
        return (
            f"{names or 'none'}{', if it requires one' if names and not row.scheme.needed else ''}"
        )
    return "none"


def options(row: Provider) -> str:
    told = []
    for option in row.options:
        env = f" (or `{'`, `'.join(option.env)}`)" if option.env else ""
        told.append(f"`{option.name}`{env}: {option.about}")
    return "; ".join(told)


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_configuration_in_the_document_is_right(text: str) -> None:
    assert read(text, Path("orchestra.toml")).models


def test_the_table_is_the_catalog() -> None:
    page = DOCUMENT.read_text("utf-8")
    missing = [row for row in table().splitlines() if row not in page]
    assert not missing, "docs/models.md has to have these rows:\n" + "\n".join(missing)
    ordered = table() in page
    assert ordered, "docs/models.md: `python -m tests.docs.test_models` prints the right table"


if __name__ == "__main__":
    print(table())
