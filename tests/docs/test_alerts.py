"""Alerts ask only for what is counted, under labels that it has; Prometheus says that they work."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestra import errors
from orchestra.server.runs.problems import FAILED, KINDS
from tests.docs.promql import OF_SCRAPES, check

ROOT = Path(__file__).parents[2]
RULES = (ROOT / "docs/deploy/alerts.yaml").read_text()


def expressions() -> list[str]:
    """What each rule asks, in one line."""
    found = re.findall(r"expr: (?:>-\n((?: {10}.*\n)+)|(.+)\n)", RULES)
    return [" ".join((folded or line).split()) for folded, line in found]


def test_each_rule_is_read() -> None:
    assert len(expressions()) == len(re.findall(r"- (?:alert|record): ", RULES))


@pytest.mark.parametrize("expression", expressions())
def test_it_asks_only_for_what_is_there(expression: str) -> None:
    check(expression, re.findall(r"- record: (\S+)", RULES))


def test_what_an_alert_says_of_where_it_is_is_known_there() -> None:
    for alert in re.split(r"- alert: ", RULES)[1:]:
        expression, _, summary = alert.partition("annotations:")
        for label in re.findall(r"\$labels\.(\w+)", summary):
            grouped = re.findall(r"by \(([^)]*)\)", expression)
            used = re.findall(r"orchestra:[\w:]+", expression)
            grouped += [
                kept
                for name in used
                for kept in re.findall(
                    rf"record: {name}\n\s+expr: (?:>-\n\s+)?.*?by \(([^)]*)\)", RULES
                )
            ]
            assert label in OF_SCRAPES or any(label in kept for kept in grouped), alert


def test_prometheus_finds_that_each_tells_what_it_is_for() -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("there is no promtool; it is in Debian's package `prometheus`")
    for act in (
        ["check", "rules", "docs/deploy/alerts.yaml"],
        ["test", "rules", "tests/docs/alerts_test.yaml"],
    ):
        done = subprocess.run([tool, *act], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_clients_can_correct_raises_no_alert_of_a_model() -> None:
    """A run that fails by such an error is answered with a status below 500."""
    wrong = {name for name, each in vars(errors).items() if inspect.isclass(each) and theirs(each)}
    (listed,) = re.findall(r'error_type!~"\|cancelled\|([\w|]+)"', RULES)
    assert set(listed.split("|")) == wrong


def theirs(kind: type) -> bool:
    fits = (each for each in KINDS if issubclass(kind, each.error))
    return next(fits, FAILED).status < 500
