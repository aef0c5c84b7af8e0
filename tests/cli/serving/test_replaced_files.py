"""Files that are replaced or deleted under a server that has them open: it notices, and says so."""

from __future__ import annotations

import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Project, said
from tests.cli.serving.test_serve import listening
from tests.patience import PATIENCE_S, eventually


def status(url: str, key: str = "") -> int:
    """What a request is answered with."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        asked = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def until(wanted: int, ask: Callable[[], int]) -> None:
    """Ask until it is answered so, which it is within a second or so."""
    eventually(f"an answer with {wanted}", ask, lambda seen: seen == wanted)


@pytest.fixture
def key(say: Project) -> str:
    words = ("--organisation", "acme", "--pipelines", "*")
    return say.orchestra("keys", "create", *words)[1].strip()


@pytest.fixture
def keys(say: Project) -> Path:
    return say.folder / ".orchestra/keys.sqlite"


def gone(file: Path) -> None:
    for each in file.parent.glob(f"{file.name}*"):
        each.unlink(missing_ok=True)  # SQLite may remove what it has put beside a file


def test_a_key_is_revoked_in_the_file_that_is_there(say: Project, key: str, keys: Path) -> None:
    """One that was restored from a copy, under a server that had the other open."""
    url = listening(say.launch("serve", "--port", "0"))
    assert status(f"{url}/v1/runs", key) == 200
    shutil.copy(keys, keys.with_name("copy"))
    gone(keys)
    keys.with_name("copy").rename(keys)
    assert say.orchestra("keys", "revoke", key)[0] == 0
    until(401, lambda: status(f"{url}/v1/runs", key))
    assert status(f"{url}/readyz") == 200


def test_without_the_file_of_its_keys_a_server_is_not_ready_and_lets_nobody_in(
    say: Project, key: str, keys: Path
) -> None:
    """Not even after a reload: it is not one in which no key was ever made."""
    process = say.launch("serve", "--port", "0")
    url = listening(process)
    assert status(f"{url}/v1/runs", key) == 200
    aside = shutil.copy(keys, keys.with_name("aside"))
    gone(keys)
    until(503, lambda: status(f"{url}/v1/runs", key))
    assert status(f"{url}/readyz") == 503
    assert status(f"{url}/v1/runs") == 401
    process.send_signal(signal.SIGHUP)
    assert "not reloaded" in said(process, "reloaded")
    assert "the file that was open is gone" in said(process, "keys.sqlite")
    assert status(f"{url}/v1/runs") == 401
    Path(aside).rename(keys)
    until(200, lambda: status(f"{url}/v1/runs", key))
    assert status(f"{url}/readyz") == 200


def test_a_server_whose_state_is_gone_is_not_ready(say: Project) -> None:
    say.write("orchestra.toml", '[state]\nurl = "sqlite:state.sqlite"\ntimeout_s = 10\n')
    process = say.launch("serve", "--port", "0")
    url = listening(process)
    assert status(f"{url}/readyz") == 200
    state = say.folder / ".orchestra/state.sqlite"
    gone(state)
    until(503, lambda: status(f"{url}/readyz"))
    process.send_signal(signal.SIGHUP)
    assert "not reloaded" in said(process, "reloaded")
    assert not state.exists()
    state.touch()
    until(200, lambda: status(f"{url}/readyz"))
