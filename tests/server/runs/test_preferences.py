"""What a client says of its run in headers and queries is read as it is meant, or refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.events import RunCancelled, RunFailed, RunFinished
from orchestra.runs.record import LOST_SEQ, event_lines_of
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.runs.preferences import (
    NO_PREFERENCES,
    Preferences,
    preferences_in,
    preferences_of,
    prefers_minimal,
)
from orchestra.server.runs.views import (
    LIMIT_MAX,
    Listing,
    failure_of,
    listing_of,
    result_of,
    whole,
)
from orchestra.server.sse import event_id

RUN = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("prefer", "background"),
    [
        ("", False),
        ("respond-async", True),
        ("wait=10, Respond-Async", True),
        ("respond-async; foo=1,x", True),
        ("respond-asynchronously", False),
        ('x="respond-async"', False),
    ],
)
def test_a_preference_is_read_by_its_name(prefer: str, *, background: bool) -> None:
    assert preferences_of(None, prefer) == Preferences(background=background)
    assert ("respond-async" in preferences_in(prefer)) == background


@pytest.mark.parametrize(
    ("prefer", "minimal"),
    [
        ("return=minimal", True),
        ('respond-async, Return = "minimal" ; x', True),
        ("return=minimal, return=representation", True),  # the first counts
        ("return=representation, return=minimal", False),
        ("return=Minimal", False),  # values are case-sensitive
        ("return", False),
        ("minimal", False),
    ],
)
def test_a_minimal_answer_is_asked_for_by_value(prefer: str, *, minimal: bool) -> None:
    assert prefers_minimal(prefer) == minimal


def test_a_key_is_what_a_client_can_send_again() -> None:
    assert preferences_of(None, "") == NO_PREFERENCES
    assert preferences_of("a-b_c", "") == Preferences(key="a-b_c")
    assert preferences_of(' "a b" ', "") != Preferences(key="a b")
    assert preferences_of('"quoted"', "") == Preferences(key="quoted")
    for wrong in ("", '""', "a b", "é", "x" * 256, "a\0"):
        found = preferences_of(wrong, "")
        assert isinstance(found, HttpProblem)
        assert (found.status, found.code) == (400, "bad-idempotency-key")


@given(st.integers(0, LOST_SEQ))
def test_an_event_is_named_by_its_number_and_may_name_its_run(seq: int) -> None:
    assert event_id(f"{seq}") == ("", seq)
    assert event_id(f" {RUN}.{seq} ") == (RUN, seq)
    assert whole(str(seq)) == seq


@pytest.mark.parametrize("wrong", ["", "x", "-1", "1.5", f"{RUN}.", f"{RUN[:-1]}.3", "٣", "9" * 17])
def test_what_names_no_event_is_none(wrong: str) -> None:
    assert event_id(wrong) is None
    assert whole(wrong) is None


def test_a_query_says_which_runs_and_all_that_is_wrong_with_it() -> None:
    assert listing_of({}) == Listing()
    asked = {"limit": "5", "cursor": "70", "pipeline": "p", "status": "failed"}
    assert listing_of(asked) == Listing(limit=5, cursor=70, pipeline="p", status="failed")
    wrong = {"limit": str(LIMIT_MAX + 1), "cursor": "x", "status": "done", "offset": "3"}
    found = listing_of(wrong)
    assert isinstance(found, HttpProblem)
    assert [fault.pointer for fault in found.faults] == ["?limit", "?cursor", "?status", "?offset"]


def test_a_last_event_gives_back_what_it_said() -> None:
    ended = RunFinished(9, 1.0, {"a": [1.0, 2]}, {"s": 0.5}, cut=True)
    (line,) = event_lines_of([ended], "r-1")
    result = result_of(line)
    assert result.cut
    assert (bytes(result.result), bytes(result.usage)) == (b'{"a":[1.0,2]}', b"null")
    assert msgspec.json.decode(result.timings_s) == {"s": 0.5}
    for event in (
        RunFailed(9, 1.0, "KeyError", "hidden", "step", None),
        RunFailed(LOST_SEQ, 1.0, "RunLostError", "it is lost"),
        RunCancelled(9, 1.0, "why"),
    ):
        (line,) = event_lines_of([event], "r-1")
        assert failure_of(line) == event
