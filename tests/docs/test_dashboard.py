"""The dashboard asks only for what is counted, under labels that it has; Prometheus can read it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.docs.promql import check, grouped

FILE = Path(__file__).parents[2] / "docs/deploy/grafana.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
TARGETS = [(panel["title"], each) for panel in PANELS for each in panel["targets"]]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OF_GRAFANA = {"__rate_interval"}


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=[title for title, _ in TARGETS])
def test_a_panel_asks_only_for_what_is_there(title: str, target: dict[str, Any]) -> None:
    """Each series is named by labels by which the query is grouped, so that no two look alike."""
    expression, legend = target["expr"], target["legendFormat"]
    check(expression)
    assert 'job=~"$job"' in expression, title
    labels = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert labels == set().union(*grouped(expression)) - {"le"}, title


def test_the_source_and_the_job_are_variables() -> None:
    """So that it works in any Grafana, and for several servers."""
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    sources = [each["datasource"] for each in (variables["job"], *PANELS)]
    sources += [target["datasource"] for _, target in TARGETS]
    assert all(each == SOURCE for each in sources)
    (metric, label) = re.findall(r"label_values\((\w+), (\w+)\)", variables["job"]["query"])[0]
    check(f"sum by ({label}) ({metric})")
    used = set(re.findall(r"\$\{?(\w+)", "".join(target["expr"] for _, target in TARGETS)))
    assert used <= {*variables, *OF_GRAFANA}


def test_no_panel_covers_another() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


def test_prometheus_can_read_each_query(tmp_path: Path) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("there is no promtool; it is in Debian's package `prometheus`")
    rules = [
        {"record": f"panel:{n}", "expr": target["expr"].replace("$__rate_interval", "5m")}
        for n, (_, target) in enumerate(TARGETS)
    ]
    file = tmp_path / "rules.yaml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [tool, "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
