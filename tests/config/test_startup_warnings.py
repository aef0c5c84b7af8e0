"""The built-in model says once that it answers, where somebody may have forgotten the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestra.config import default_bindings, startup_warnings
from orchestra.config.built_in import PROVIDER_VARIABLES


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    startup_warnings._warn.cache_clear()
    monkeypatch.chdir(tmp_path)
    for each in (*PROVIDER_VARIABLES, "ORCHESTRA_CONFIG"):
        monkeypatch.delenv(each, raising=False)


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "orchestra.config"]


def test_where_nothing_is_configured_the_built_in_model_says_so_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for _ in range(2):
        with default_bindings() as bindings:
            assert not caplog.records or len(caplog.records) == 1
            bindings.embedder("default")
            bindings.model("default")
            bindings.model("smart")
    (said,) = warned(caplog)
    assert f"there is no orchestra.toml in {tmp_path}" in said
    assert "OPENAI_API_KEY" in said


HALVES = [
    ({"AZURE_OPENAI_API_KEY": "k"}, "AZURE_OPENAI_API_KEY, but not AZURE_OPENAI_ENDPOINT in the"),
    (
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        "AWS_ACCESS_KEY_ID, but not AWS_REGION or AWS_DEFAULT_REGION in the",
    ),
]


@pytest.mark.parametrize(("environ", "says"), HALVES)
def test_a_key_without_an_address_is_told_with_what_is_missing(
    environ: dict[str, str],
    says: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever has set a key reads that there is none, else."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AZURE_OPENAI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with default_bindings() as bindings:
        bindings.model("default")
    (said,) = warned(caplog)
    assert says in said
    assert "no key of a provider" not in said


def test_who_has_configured_something_or_wants_no_environment_is_told_nothing(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with default_bindings(environ={}) as bindings:
        bindings.model("default")
    (tmp_path / "orchestra.toml").write_text("")
    with default_bindings() as bindings:
        bindings.model("default")
    (tmp_path / "orchestra.toml").unlink()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    assert os.environ["OPENAI_API_KEY"]
    with default_bindings() as bindings:
        bindings.model("default")
    assert not warned(caplog)
