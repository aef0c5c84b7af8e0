"""The notes on owners without a key: how much is read, compared and told."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from orchestra.access.wanted import NewKey
from orchestra.cli import unknown_owners as limits
from orchestra.cli.unknown_owners import unknown_owners
from orchestra.config import default_bindings

PAGE = 128


def notes(folder: Path, keys: int, *named: str) -> list[str]:
    file = folder / "c.toml"
    file.write_text("".join(f"[budgets.organisations.{each}]\nmonth = 5\n" for each in named))

    async def main() -> list[str]:
        with default_bindings(folder, config=file, environ={}) as bindings:
            for number in range(keys):
                wanted = NewKey(organisation=f"acme-{number}", pipelines=("*",))
                await bindings.keyring.create(wanted)
            return await unknown_owners(bindings)

    return trio.run(main)


def test_of_many_names_a_few_are_told_and_the_others_counted(tmp_path: Path) -> None:
    """Each is compared with all owners: a hundred of them held up a server for minutes."""
    found = notes(tmp_path, 2, *(f"acme-x{number}" for number in range(limits.NOTES_MAX + 3)))
    assert len(found) == limits.NOTES_MAX + 1
    assert "did you mean" in found[-2]
    assert found[-1] == "and no key belongs to 3 more names in [limits] and [budgets]"


def test_a_name_is_not_compared_with_too_many_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COMPARED_MAX", 1)
    (found,) = notes(tmp_path, 2, "acme-x1")
    assert found.endswith("`orchestra keys list` shows the owners of keys")


def test_no_more_keys_are_read_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then an owner who was not read may have a key, so nothing is said of anybody."""
    monkeypatch.setattr(limits, "KEYS_MAX", PAGE)
    assert len(notes(tmp_path, PAGE, "typo")) == 1
    assert notes(tmp_path, 1, "typo") == []
