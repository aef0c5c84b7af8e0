"""An outage is told once, and its end; however often a state comes and goes."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.errors import StateError
from orchestra.protocols import Change
from orchestra.stores.state.grouping import Call, Deciding, Group, Outcomes, Recalling, decide_all
from orchestra.stores.state.outage import LASTS_S, QUIET_S, outage_of_state
from orchestra.testing.virtual import virtual

AWAY = StateError("here: it is away")
SAID = (
    "here: it is away; until it answers, limits let calls pass and budgets refuse them, unless "
    "`when_state_fails` says otherwise"
)


class Kept(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@example([(False, 0.0), (False, 1.0), (True, 0.0), (False, 0.0), (False, 59.0), (False, 1.0)])
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.5, 1.0, 59.0, 60.0, 90.0]))))
def test_an_outage_and_its_end_are_told_in_turns_and_not_often(
    found: list[tuple[bool, float]],
) -> None:
    kept, logger = Kept(), logging.getLogger("orchestra.stores")
    logger.addHandler(kept)
    outage, now_s, since_s = outage_of_state("here"), 0.0, math.inf
    told: list[tuple[bool, float]] = []
    try:
        for answers, later_s in found:
            now_s += later_s
            before = len(kept.lines)
            outage.answered(now_s) if answers else outage.failed(AWAY, now_s)
            since_s = math.inf if answers else min(since_s, now_s)
            assert SAID not in kept.lines[before:] or now_s - since_s >= LASTS_S
            told += [(line == SAID, now_s) for line in kept.lines[before:]]
    finally:
        logger.removeHandler(kept)
    assert [began for began, _ in told] == [at % 2 == 0 for at in range(len(told))]
    begun = [at_s for began, at_s in told if began]
    ended = [at_s for began, at_s in told if not began]
    assert all(later - end >= QUIET_S for end, later in zip(ended, begun[1:], strict=False))
    if not found[-1:] or found[-1][0]:
        assert len(told) % 2 == 0  # nobody is left believing that it is away


def test_what_a_group_finds_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """What a call's own decision raises is no outage."""
    away = True

    def refuse(_kept: Sequence[bytes | None], _now_s: float) -> Change[None]:
        raise StateError("what is kept cannot be read")

    async def perform(batch: Sequence[Call]) -> Outcomes:
        await trio.sleep(1.0)
        if away:
            raise AWAY
        deciding = [each for each in batch if isinstance(each, Deciding)]
        return decide_all(deciding, {}, 0.0)[0] if deciding else [None for _ in batch]

    async def main() -> None:
        nonlocal away
        group = Group("here", perform, 5.0)
        for _ in range(3):
            with pytest.raises(StateError, match="away"):
                await group.do(Recalling("a"))
        away = False
        with pytest.raises(StateError, match="cannot be read"):
            await group.do(Deciding((), refuse))
        await group.do(Recalling("a"))

    virtual(main)
    assert caplog.messages == [SAID, "here answers again, 3 s after the first failure"]
