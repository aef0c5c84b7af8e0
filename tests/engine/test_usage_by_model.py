"""The usage of each model in a run's last event: the parts of the run's usage, however it ends."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from orchestra import Context, injected, open_engine, pipeline, step
from orchestra.accounts import Usage
from orchestra.engine.run import Run
from orchestra.events import Terminal
from orchestra.testing.virtual import virtual

CALLS = st.lists(st.tuples(st.sampled_from(["", "b", "a", "c"]), st.integers(0, 9)), max_size=8)


@step
async def consume(calls: list[Any], fails: bool, context: Context = injected) -> int:
    for model, tokens in calls:
        cast("Any", context).used(Usage(tokens, cost_nanodollars=2 * tokens), model)
    if fails:
        raise ValueError("no")
    return len(calls)


@pipeline
def both(first: list[Any], second: list[Any], fails: bool) -> list[int]:
    return [consume(first, fails=False), consume(second, fails=fails)]


@given(CALLS, CALLS, st.booleans())
def test_the_parts_are_those_of_each_model_and_add_up(
    first: list[Any], second: list[Any], fails: bool
) -> None:
    """What no model of the deployment has consumed is only in the sum."""

    async def main() -> Run[Any]:
        async with open_engine() as engine:
            run = engine.start(both, {"first": first, "second": second, "fails": fails})
            await run.wait_ended()
            return run

    run = virtual(main)
    last = cast("Terminal", run.journal.last)
    tokens, calls = Counter[str](), [*first, *second]
    for model, count in calls:
        tokens[model] += count
    named = {model for model, _ in calls} - {""}
    assert list(last.usage_by_model) == sorted(named)
    for model, usage in last.usage_by_model.items():
        assert (usage.input_tokens, usage.cost_nanodollars) == (tokens[model], 2 * tokens[model])
    total = last.usage.input_tokens if last.usage is not None else 0
    assert total == tokens.total()
    assert last.usage_by_model == run.usage_by_model
