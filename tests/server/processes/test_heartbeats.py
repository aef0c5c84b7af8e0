"""Who is stuck: judged by heartbeats, on clocks that are drawn."""

from __future__ import annotations

import socket

from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.server.processes.heartbeats import (
    BEAT,
    BEAT_S,
    LOADING,
    LOOK_S,
    START_S,
    TIMEOUT_MIN_S,
    Pulse,
)
from orchestra.server.processes.worker_place import WorkerPlace

GAPS_S = st.floats(0, LOOK_S)
TIMEOUTS_S = st.floats(0.001, 1e3)
LATE_S = st.one_of(GAPS_S, st.floats(0, 1e6))
HEARTBEATS = st.sampled_from([BEAT, LOADING, BEAT * 9, LOADING + BEAT])
BEGAN_S = st.floats(0, 1e6)


def looked(pulse: Pulse, gaps_s: list[float], heartbeats: bytes = b"") -> Pulse:
    for gap_s in gaps_s:
        pulse = pulse.looked(pulse.looked_s + gap_s, heartbeats)
    return pulse


@given(BEGAN_S, st.lists(LATE_S), TIMEOUTS_S, HEARTBEATS)
def test_one_that_was_just_heard_is_not_stuck(
    began_s: float, gaps_s: list[float], timeout_s: float, heartbeats: bytes
) -> None:
    pulse = looked(Pulse(began_s), gaps_s)
    assert not pulse.looked(pulse.looked_s, heartbeats).stuck(timeout_s)


@given(BEGAN_S, st.lists(GAPS_S, min_size=1), TIMEOUTS_S)
def test_one_that_is_silent_is_stuck_after_that_time_and_no_sooner(
    began_s: float, gaps_s: list[float], timeout_s: float
) -> None:
    pulse, silent_s = Pulse(began_s), 0.0
    while not pulse.stuck(timeout_s):
        assert silent_s < max(timeout_s, TIMEOUT_MIN_S) + 1e-3
        gap_s = gaps_s[0] if gaps_s[0] > 0.01 else LOOK_S
        gaps_s, silent_s = [*gaps_s[1:], gaps_s[0]], silent_s + gap_s
        pulse = pulse.looked(pulse.looked_s + gap_s, b"")
    assert silent_s > max(timeout_s, TIMEOUT_MIN_S) - 1e-3


@given(BEGAN_S, st.floats(0, 1e9), TIMEOUTS_S)
@example(0, 3_600, 60)
def test_time_in_which_the_supervisor_did_not_run_counts_as_one_look(
    began_s: float, frozen_s: float, timeout_s: float
) -> None:
    """A machine that was suspended, and a container that was frozen, stood still as a whole."""
    pulse = looked(Pulse(began_s), [frozen_s, BEAT_S])
    assert not pulse.stuck(timeout_s)
    assert pulse.silent_s <= LOOK_S + BEAT_S + 1e-6


@given(BEGAN_S, st.floats(0.001, START_S / 2))
def test_one_that_reloads_may_be_silent_for_as_long_as_a_start(
    began_s: float, timeout_s: float
) -> None:
    pulse = Pulse(began_s).looked(began_s, BEAT + LOADING)
    assert not looked(pulse, [LOOK_S] * (int(START_S) - 1)).stuck(timeout_s)
    assert looked(pulse, [LOOK_S] * (int(START_S) + 1)).stuck(timeout_s)
    heard = pulse.looked(began_s, BEAT)
    assert looked(heard, [LOOK_S] * (int(max(timeout_s, TIMEOUT_MIN_S)) + 2)).stuck(timeout_s)


def test_a_supervisor_that_reads_nothing_stops_no_worker() -> None:
    """It may be suspended itself; and one that has died is no error."""
    ours, its = socket.socketpair()
    place = WorkerPlace(1, ours, ours)
    with ours:
        with its:
            for _ in range(10_000):
                place.beat(loading=False)
        place.beat(loading=True)
