"""What a shared state gives back: of another version, written by hand, or cut."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.access import changes, keys
from orchestra.accounts import Caller, Usage
from orchestra.errors import RunLostError, StateError
from orchestra.policies.limits import allowance
from orchestra.policies.money import balances, ledger
from orchestra.policies.money.budget import Budgets, SpendingLimits
from orchestra.runs import archive, idempotency, inbox, index, keeping
from orchestra.runs.record import EventLine, FailedWith, Record
from orchestra.server.openai import stored
from orchestra.server.runs import views

Reader = Callable[[bytes], object]
LINE = EventLine(1, "delta", b"{}")
NOW_S = 1.8e9
PAYERS = Budgets(
    user=SpendingLimits(day=10, month=20), organisation=SpendingLimits(day=10)
).of_caller(Caller("acme", "ada"))

pack, text = msgspec.msgpack.encode, msgspec.json.encode
NONE: list[tuple[Reader, bytes]] = [
    (
        archive.record_of,
        pack(
            Record(
                id="a",
                pipeline="p",
                process="q",
                created_s=1.0,
                outcome=FailedWith("Error", "why"),
                usage=Usage(3, 4),
                usage_by_model={"m": Usage(3, 4)},
                tags={"team": "a"},
            )
        ),
    ),
    (index.read, pack(index.Page(1, ("a", "b")))),
    (inbox.opened, pack((inbox.FollowRequest("a", 1, "b"), inbox.CancelRequest("a", "why")))),
    (inbox.published, pack(inbox.Published((LINE,), 3))),
    (keeping.unpacked, pack((LINE,))),
    (allowance.ENCODING.read, text(allowance.OwnerState())),
    (ledger.ENCODING.read, text(ledger.Ledger(1, [0, 0], [0, 0], {3: 4}, 4, 3, 3))),
    (stored._read, b'{"organisation": 1}'),
    (stored._sizes, b'{"a": 1}'),
    (lambda data: changes.listed(["a"], [data], 0.0), keys.encoded(keys.DUMMY_RECORD)),
]
"""What can be done without; a ledger only seems so: see below."""
ERROR: list[tuple[Reader, bytes]] = [
    (lambda data: keys.decoded("a", data), keys.encoded(keys.DUMMY_RECORD)),
    (lambda data: changes.index([None, data], 0.0), b'["a", "b"]'),
    (lambda data: changes.index([data, None], 0.0), b'{"made": 3}'),
    (idempotency._read, pack(idempotency.Claim("a", "b"))),
]


@st.composite
def spoilt(draw: st.DrawFn, good: bytes) -> bytes:
    """A record that was cut, of which a byte is another, or something else."""
    at = draw(st.integers(0, len(good) - 1))
    some = draw(st.binary(max_size=3))
    return draw(
        st.sampled_from([good[:at], good[:at] + some + good[at + 1 :], some, good + some, b"null"])
    )


@given(st.data())
@pytest.mark.parametrize(("read", "good"), NONE)
def test_what_can_be_done_without_is_nothing_where_it_cannot_be_read(
    read: Reader, good: bytes, data: st.DataObject
) -> None:
    read(good)
    read(data.draw(spoilt(good)))


@given(st.data())
@pytest.mark.parametrize(("read", "good"), ERROR)
def test_what_is_a_promise_to_somebody_is_an_error_where_it_cannot_be_read(
    read: Reader, good: bytes, data: st.DataObject
) -> None:
    read(good)
    with suppress(StateError):
        read(data.draw(spoilt(good)))


BY_NAME = ("usage_by_model", "tags")
"""The fields whose names are models and tags, and no fields."""


def grown(found: object, *, by_name: bool = False) -> object:
    """What a newer version may write: each record has one field more."""
    match found:
        case dict():
            parts = {name: grown(each, by_name=name in BY_NAME) for name, each in found.items()}
            return parts if by_name else {**parts, "later": [1]}
        case list():
            return [*map(grown, found)]
    return found


@pytest.mark.parametrize(("read", "good"), [*NONE, *ERROR])
def test_a_newer_version_may_have_more_fields(read: Reader, good: bytes) -> None:
    """So that an update can go from one process to the next, and back; see `layout`."""
    if read is stored._sizes:
        return  # names of its own
    coding: Any = msgspec.json if good[:1] in b"[{" else msgspec.msgpack
    found = coding.decode(good)
    in_places = read in (allowance.ENCODING.read, ledger.ENCODING.read)
    more = coding.encode([*found, 1] if in_places else grown(found))
    assert repr(read(more)) == repr(read(good))


def test_a_key_that_cannot_be_read_is_left_out_of_the_list(
    caplog: pytest.LogCaptureFixture,
) -> None:
    record = keys.encoded(keys.DUMMY_RECORD)
    assert changes.listed(["a", "b"], [b"{", record], 0.0) == (keys.DUMMY_RECORD,)
    assert "key a cannot be read, and is left out" in caplog.text


@pytest.mark.parametrize("data", [b"[]", b"\xff", b'["Ledger",20833,[5],[],{}]', b'["Spent",1]'])
def test_what_was_spent_is_not_forgotten_where_a_ledger_cannot_be_read(data: bytes) -> None:
    there = [ledger.ENCODING.read(data), None]
    wanted = ledger.Wanted("", PAYERS, 1, 30.0)
    with pytest.raises(StateError, match=r"of user acme/ada cannot be read.*budgets reset"):
        ledger.hold(wanted, there, NOW_S)
    with pytest.raises(StateError, match="of user acme/ada cannot be read"):
        ledger.used_up(PAYERS, there, NOW_S)


def test_who_else_pays_is_told_and_settled_beside_a_ledger_that_cannot_be_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    user, organisation = PAYERS
    there = [ledger.ENCODING.read(b"?"), None]
    assert {each.budget.kind for each in balances._balances(PAYERS, there, NOW_S)} == {
        "organisation"
    }
    assert "of user acme/ada cannot be read" in caplog.text
    settled = ledger.settle(ledger.Settlement("", PAYERS, 3), there, NOW_S)
    assert [*settled.records] == [organisation.key]
    anew = balances._reset(user, there[:1], NOW_S).records[user.key]
    assert anew is not None
    assert ledger.used_up([user], [anew[0]], NOW_S) is None


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"result": 1}', b"\xff", b'{"seq": "one", "at_s": 1}']
)
def test_a_last_event_that_cannot_be_read_is_kept_no_longer(data: bytes) -> None:
    last = EventLine(3, "run_finished", data)
    with pytest.raises(RunLostError, match="cannot be read"):
        views.result_of(last)
    with pytest.raises(RunLostError, match="cannot be read"):
        views.failure_of(last)
    record = Record(id="a", pipeline="p", process="q", created_s=1.0)
    assert "result" not in views.shown(record, last)
