"""An evaluation is repeated without network: a cache in a file answers, as docs/batches.md says."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from orchestra import collect, open_engine, pipeline
from orchestra.batch.batch import Batch, BatchRules, Progress
from orchestra.batch.ledger import Row
from orchestra.config import default_bindings
from orchestra.config.reading import read_file
from orchestra.errors import ModelConnectionError
from orchestra.graph.rules.policy import Retry
from orchestra.protocols import Model, ModelReply
from orchestra.steps import generate
from orchestra.testing.world import ScriptedModel
from orchestra.values import ChatRequest

FILE = f"""
[models.default]
class = "{__name__}:Networked"
prices = {{ input = 1, output = 1 }}
cache = {{ ttl_s = 31_536_000 }}

[state]
url = "sqlite:answers.sqlite"
timeout_s = 5
"""
NETWORK = {"up"}


class Networked(Model):
    """Says what it is asked, as long as there is a network."""

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncGenerator[ModelReply]:
        if not NETWORK:
            raise ModelConnectionError("could not be reached")
        async with ScriptedModel.saying(request.messages[-1].text).stream(request) as reply:
            yield reply


@pipeline
def told(text: str) -> str:
    return collect(generate(text))


def evaluated(folder: Path, results: str, texts: list[str]) -> Progress:
    async def main() -> Progress:
        with default_bindings(config=folder / "evals.toml", data=folder) as bound:
            async with open_engine(bound) as engine:
                rows = [Row(text, {"text": text}) for text in texts]
                rules = BatchRules(retry=Retry(attempts_max=1))
                return await Batch(engine, told, rows, folder / results, rules=rules).run()

    return trio.run(main)


def test_the_file_of_an_evaluation_is_the_deployments_own_with_another_state(
    tmp_path: Path,
) -> None:
    """Made by the command of the page, so that no model has to be written twice."""
    page = (Path(__file__).parents[2] / "docs/batches.md").read_text("utf-8")
    recipe = page.partition("**In CI, without network or keys**")[2]
    more, command = re.findall(r"```(?:toml|sh)\n(.*?)```", recipe, re.DOTALL)[:2]
    for state in ("", '[state]\nurl = "redis://host:6379/0"\ntimeout_s = 1\n\n'):
        limits = "[models.fast.limits]\nconcurrency = 3\n"
        (tmp_path / "orchestra.toml").write_text(
            f'[models.fast]\nprovider = "openai"\nmodel = "gpt-5.4-mini"\n\n{state}{limits}'
        )
        (tmp_path / "evals").mkdir(exist_ok=True)
        (tmp_path / "evals/more.toml").write_text(more)
        subprocess.run(["/bin/sh", "-ec", command.splitlines()[0]], check=True, cwd=tmp_path)
        found = read_file(tmp_path / "evals.toml")
        fast = found.models["fast"]
        assert fast.limits.concurrency == 3
        assert fast.cache is not None
        assert found.state is not None
        assert found.state.url == "sqlite:answers.sqlite"


def test_what_was_answered_before_needs_no_network_and_anything_else_fails(tmp_path: Path) -> None:
    (tmp_path / "evals.toml").write_text(FILE)
    NETWORK.add("up")
    assert evaluated(tmp_path, "1.jsonl", ["tea", "milk"]).finished == 2
    NETWORK.clear()
    again = evaluated(tmp_path, "2.jsonl", ["tea", "milk", "ink"])
    assert (again.finished, again.failed) == (2, 1)
    lines = [json.loads(line) for line in (tmp_path / "2.jsonl").read_bytes().splitlines()]
    by_id = {line["id"]: line for line in lines}
    assert (by_id["tea"]["result"], by_id["milk"]["result"]) == ("tea", "milk")
    assert by_id["tea"]["usage"]["cost_nanodollars"] == 0
    assert by_id["ink"]["error"] == "ModelConnectionError"
