"""What is waited for in tests is waited for within a bound, whatever the other side does."""

from __future__ import annotations

import subprocess

import pytest

from tests import patience
from tests.patience import eventually, line_with


@pytest.mark.parametrize(
    ("says", "why"),
    [("yes", "0.2 s passed"), ("sleep 30", "0.2 s passed"), ("echo y", "it ended")],
    ids=["something else, on and on", "nothing", "something else, and ends"],
)
def test_a_line_that_does_not_come_is_told(
    says: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.2)
    with subprocess.Popen(says.split(), stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        try:
            with pytest.raises(AssertionError, match=f"^{why}, and 'ready' was not said"):
                line_with(process.stdout, "ready")
        finally:
            process.kill()


def test_what_is_seen_last_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.05)
    with pytest.raises(AssertionError, match=r"^an answer: not within 0.05 s; seen last: 3$"):
        eventually("an answer", lambda: 3, lambda seen: seen == 4)
