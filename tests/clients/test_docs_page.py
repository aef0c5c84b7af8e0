"""The page at /docs, in a browser: what is served is on it, under its own policy."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.clients.programs import PATIENCE_S
from tests.clients.scripts import CALM, ONCE, browser

pytestmark = ONCE


def test_the_page_shows_what_is_served(ours: str, tmp_path: Path) -> None:
    address = ours.removesuffix("/v1") + "/docs#post-v1-chat-completions"
    options = [f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run(
        [browser(), *CALM, "--enable-logging=stderr", *options, address],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert "CONSOLE" not in done.stderr, "no error of the script, and nothing against the policy"
    for said in (
        "/v1/pipelines/shout/runs",
        "What the model says.",
        "StepFinished",
        "ChatCompletion",
        "unknown-pipeline, asked-as-model",  # the types of a problem, at each operation
    ):
        assert said in done.stdout
    assert '<details id="post-v1-chat-completions" open="">' in done.stdout
