"""Models that are away for a while: rows wait, few calls are made, and no row is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from orchestra import collect, open_engine, pipeline
from orchestra.batch.batch import OUTAGE_S, RETRY, Batch, BatchRules
from orchestra.batch.ledger import Row
from orchestra.config.reading import read as read_file
from orchestra.errors import BatchError, ModelConnectionError
from orchestra.policies.health.breaker import BreakerRule
from orchestra.steps import generate
from orchestra.testing.deployed import deployed
from orchestra.testing.turns import ScriptedAnswers
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import ChatRequest

RULE = BreakerRule()
TOML = """
[models.far]
provider = "openai"
model = "gpt-5.4-mini"
"""


@pipeline
def asked(question: str) -> str:
    return collect(generate(question, model="far"))


@attrs.define
class Provider:
    """A provider that cannot be reached from one time to another."""

    away_s: Sequence[tuple[float, float]]
    refused: list[float] = attrs.field(factory=list)
    answered: Counter[str] = attrs.field(factory=Counter)

    def answer(self, request: ChatRequest) -> ScriptedModel:
        now_s = trio.current_time()
        if any(from_s <= now_s < to_s for from_s, to_s in self.away_s):
            self.refused.append(now_s)
            raise ModelConnectionError("connection refused", code="connect")
        self.answered[str(request.messages[-1].text)] += 1
        return ScriptedModel.saying("yes", every_s=1.0)


@attrs.frozen
class Ended:
    """How a batch ended."""

    lines: dict[str, dict[str, Any]]
    error: BatchError | None
    at_s: float


def batch(
    provider: Provider, path: Path, *, rows: int = 24, draw: float = 0.5, **rules: Any
) -> Ended:
    """A batch in virtual time, with a breaker around the provider."""
    models = deployed(
        read_file(TOML, Path("orchestra.toml")), {"far": ScriptedAnswers(provider.answer)}
    )
    given = [Row(str(number), {"question": str(number)}) for number in range(rows)]

    async def main() -> tuple[BatchError | None, float]:
        began_s, error = trio.current_time(), None
        async with open_engine(World(models=models)) as engine:
            made = Batch(engine, asked, given, path, rules=BatchRules(**rules), draw=lambda: draw)
            try:
                await made.run()
            except BatchError as raised:
                error = raised
        return error, trio.current_time() - began_s

    error, at_s = trio.run(main, clock=MockClock(autojump_threshold=0))
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return Ended({each["id"]: each for each in lines}, error, at_s)


def probes(from_s: float, to_s: float) -> int:
    """The most calls that breakers let through in an outage, with the shortest pauses."""
    at_s, pause_s, calls = from_s, RULE.open_s, 0
    while at_s < to_s:
        calls += RULE.probes
        at_s, pause_s = at_s + pause_s, min(2 * pause_s, RULE.open_max_s)
    return calls


@settings(max_examples=40)  # each runs two batches
@given(
    st.floats(0, 20),
    st.floats(0, OUTAGE_S - RULE.open_max_s),
    st.integers(1, 12),
    st.integers(1, 6),
    st.floats(0, 1),
)
@example(0.0, 120.0, 8, 5, 1.0)
@example(0.0, 120.0, 8, 1, 0.0)
def test_an_outage_loses_no_row_and_costs_only_probes(
    from_s: float, lasts_s: float, at_once: int, attempts_max: int, draw: float
) -> None:
    """Only calls before the breaker opens can fail a row, and the next batch runs it again."""
    provider = Provider([(from_s, from_s + lasts_s)])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "results"
        retry = attrs.evolve(RETRY, attempts_max=attempts_max)
        first = batch(provider, path, at_once=at_once, retry=retry, draw=draw)
        assert first.error is None
        assert len(first.lines) == 24
        assert all(each["attempts"] <= attempts_max for each in first.lines.values())
        failed = [each for each in first.lines.values() if each["status"] == "failed"]
        assert {each["error"] for each in failed} <= {"ModelConnectionError"}
        provider.away_s = ()
        again = batch(provider, path, at_once=at_once, retry=retry, draw=draw)
    assert {each["status"] for each in again.lines.values()} == {"finished"}
    assert provider.answered == {str(number): 1 for number in range(24)}, "a row was paid twice"


@pytest.mark.parametrize("draw", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("at_once", [8, 16])
def test_an_outage_of_two_minutes_fails_no_row(tmp_path: Path, at_once: int, draw: float) -> None:
    provider = Provider([(0.0, 120.0)])
    ended = batch(provider, tmp_path / "r", rows=100, at_once=at_once, draw=draw)
    assert {each["status"] for each in ended.lines.values()} == {"finished"}
    assert len(ended.lines) == 100
    assert len(provider.refused) <= RULE.calls_min + at_once + probes(0, 120)
    assert ended.at_s <= 120 + RULE.open_max_s + 2 * 100 / at_once + 5


def test_a_row_that_was_not_sent_is_no_attempt(tmp_path: Path) -> None:
    """With a single attempt, only the calls that opened the breaker fail their rows."""
    provider, once = Provider([(0.0, 120.0)]), attrs.evolve(RETRY, attempts_max=1)
    ended = batch(provider, tmp_path / "r", rows=100, retry=once)
    failed = [each for each in ended.lines.values() if each["status"] == "failed"]
    assert {each["error"] for each in failed} == {"ModelConnectionError"}
    assert len(failed) <= RULE.calls_min
    assert len(ended.lines) == 100


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 6), st.floats(0, 1), st.sampled_from([0, 10, OUTAGE_S]))
def test_a_provider_that_is_away_for_good_ends_the_batch_soon(
    at_once: int, attempts_max: int, draw: float, outage_max_s: float
) -> None:
    provider = Provider([(0.0, inf)])
    retry = attrs.evolve(RETRY, attempts_max=attempts_max)
    rules: dict[str, Any] = {"at_once": at_once, "retry": retry, "failures_max": 100}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "r"
        ended = batch(provider, path, rows=40, draw=draw, outage_max_s=outage_max_s, **rules)
        opened_s = provider.refused[: RULE.calls_min][-1]
        assert ended.error is not None
        assert "no model has answered for" in str(ended.error)
        assert "ModelConnectionError: connection refused" in str(ended.error)
        assert isinstance(ended.error.__cause__, ModelConnectionError)
        assert ended.at_s <= opened_s + outage_max_s + RULE.open_max_s + 5
        assert len(provider.refused) <= RULE.calls_min + at_once + probes(opened_s, ended.at_s)
        assert len(ended.lines) <= RULE.calls_min + at_once
        provider.away_s = ()
        again = batch(provider, path, rows=40, draw=draw, **rules)
    assert {each["status"] for each in again.lines.values()} == {"finished"}
    assert len(again.lines) == 40
