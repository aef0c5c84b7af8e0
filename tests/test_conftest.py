"""In CI nothing is skipped in silence; on a second Python, laws are tried less often."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
TESTS = """
import gc
import os
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tried = []

@settings(max_examples=200)
@given(st.integers())
def test_a_law(number): tried.append(number)

class TestLaws:
    @pytest.mark.parametrize("_", "ab")
    @settings(max_examples=300)
    @given(st.integers())
    def test_in_a_class(self, _, number): tried.append(number)

@pytest.mark.in_full
@settings(max_examples=1000)
@given(st.integers())
def test_a_claim(number): tried.append(number)

def test_how_often(): assert len(tried) == AS_OFTEN

@pytest.mark.skip(reason="not today")
def test_marked(): ...

def test_from_within(): pytest.skip("not today")

@pytest.mark.may_skip("needs Python 3.99")
@pytest.mark.skip(reason="not today")
def test_excused(): ...

@pytest.mark.may_skip()
@pytest.mark.skip(reason="not today")
def test_excused_without_a_reason(): ...

@pytest.mark.xfail
def test_expected_to_fail(): assert False

def test_right(): ...

def test_no_proxy_and_no_ignored_signal_is_handed_on():
    assert "HTTPS_PROXY" not in os.environ
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL

def test_garbage_is_not_looked_for_among_what_was_collected():
    assert gc.isenabled()
    assert gc.get_freeze_count() > 10_000
"""


def outcomes(folder: Path, profile: str, *, ci: str, as_often: int) -> dict[str, str]:
    """What pytest says of each test, by its name, and of a file that skips itself."""
    (folder / "conftest.py").write_text(CONFTEST.read_text("utf-8"), "utf-8")
    (folder / "test_a.py").write_text(f"AS_OFTEN = {as_often}\n{TESTS}", "utf-8")
    (folder / "test_b.py").write_text("import pytest\npytest.importorskip('nothing')", "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    may_skip\n    in_full\n", "utf-8")
    command = ["nohup", sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider"]
    command += [f"--hypothesis-profile={profile}"]
    command += ["--no-fold-skipped", "--continue-on-collection-errors"]
    environment = {**os.environ, "CI": ci, "PYTEST_ADDOPTS": "", "HTTPS_PROXY": "http://nobody"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    lines = re.findall(r"^([A-Z]+) +(?:\[1\] )?(\S+)", done.stdout, re.MULTILINE)
    return {re.sub(r".*::test_|:\d+:$", "", where): word for word, where in lines}


LAWS = {
    "a_law": "PASSED",
    "in_a_class[a]": "PASSED",
    "in_a_class[b]": "PASSED",
    "a_claim": "PASSED",
    "garbage_is_not_looked_for_among_what_was_collected": "PASSED",
}


def test_at_home_a_skip_is_a_skip_and_laws_are_tried_as_often_as_they_say(tmp_path: Path) -> None:
    assert outcomes(tmp_path, "orchestra", ci="", as_often=200 + 2 * 300 + 1000) == {
        **LAWS,
        "how_often": "PASSED",
        "marked": "SKIPPED",
        "from_within": "SKIPPED",
        "excused": "SKIPPED",
        "excused_without_a_reason": "SKIPPED",
        "expected_to_fail": "XFAIL",
        "right": "PASSED",
        "no_proxy_and_no_ignored_signal_is_handed_on": "PASSED",
        "test_b.py": "SKIPPED",
    }


@pytest.mark.parametrize(
    ("profile", "as_often"),
    [("orchestra", 50 + 2 * 75 + 1000), ("again", 20 + 2 * 30 + 100)],
)
def test_in_ci_a_skip_is_a_failure_unless_it_is_excused_with_a_reason(
    tmp_path: Path, profile: str, as_often: int
) -> None:
    """And laws are tried a quarter as often, on a second Python a tenth as often."""
    assert outcomes(tmp_path, profile, ci="true", as_often=as_often) == {
        **LAWS,
        "how_often": "PASSED",
        "marked": "ERROR",
        "from_within": "FAILED",
        "excused": "SKIPPED",
        "excused_without_a_reason": "ERROR",
        "expected_to_fail": "XFAIL",
        "right": "PASSED",
        "no_proxy_and_no_ignored_signal_is_handed_on": "PASSED",
        "test_b.py": "ERROR",
    }
