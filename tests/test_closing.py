"""What deployments that exist beside one another have open: closed once, with its last user."""

from __future__ import annotations

from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.closing import Opened

KEYS = st.sampled_from("ab")
ACTS = st.lists(
    st.tuples(st.sampled_from(["open", "own", "close"]), st.integers(0, 2), KEYS),
    min_size=10,
    max_size=40,
)


@attrs.define(eq=False)
class Thing:
    """Something that was opened."""

    closings: int = 0
    stuck: bool = False

    def close(self) -> None:
        self.closings += 1
        if self.stuck:
            raise OSError("stuck")


@given(ACTS)
def test_what_is_shared_is_one_thing_and_closed_with_the_last_that_uses_it(
    acts: list[tuple[str, int, str]],
) -> None:
    """Whichever is closed first, and also where one is closed twice."""
    there = [Opened(), Opened(), Opened()]
    for before, after in pairwise(there):
        after.share(before)
    users: dict[tuple[int, str], Thing] = {}
    owners: list[tuple[int, Thing]] = []
    closed: set[int] = set()
    things: set[Thing] = set()
    for act, at, key in acts:
        if act == "close":
            there[at].close()
            closed.add(at)
            users = {user: thing for user, thing in users.items() if user[0] != at}
        elif at not in closed and act == "open":
            found = there[at].shared(key, Thing)
            assert {each for (_, name), each in users.items() if name == key} <= {found}
            users[at, key] = found
            things.add(found)
        elif at not in closed:
            owners.append((at, there[at].own(Thing())))
        for thing in things:
            assert thing.closings == (thing not in users.values())
        for owner, thing in owners:
            assert thing.closings == (owner in closed)


def test_all_is_closed_where_one_thing_cannot_be() -> None:
    opened, things = Opened(), [Thing(), Thing(stuck=True), Thing()]
    for number, thing in enumerate(things[:2]):
        assert opened.shared(number, lambda thing=thing: thing) is thing  # type: ignore[misc]
    opened.own(things[2])
    opened.own("which cannot be closed")
    with pytest.raises(OSError, match="stuck"):
        opened.close()
    opened.close()
    assert [each.closings for each in things] == [1, 1, 1]


def test_what_cannot_be_opened_can_be_later() -> None:
    def refused() -> Thing:
        raise OSError("no room")

    opened = Opened()
    with pytest.raises(OSError, match="no room"):
        opened.shared("a", refused)
    thing = opened.shared("a", Thing)
    opened.close()
    assert thing.closings == 1
