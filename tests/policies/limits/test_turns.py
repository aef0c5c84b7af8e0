"""Turns: callers are served in turn, and the items of each in order."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from orchestra.policies.limits.turns import Turns

NAMES = ("a", "b", "c")
steps = st.lists(
    st.sampled_from([("add", name) for name in NAMES])
    | st.just(("serve", ""))
    | st.tuples(st.just("remove"), st.integers(0, 99)),
    max_size=40,
)


class Model:
    """The same queue, written down as what it promises: who has waited for a turn the longest."""

    def __init__(self) -> None:
        self.lines: dict[str, deque[int]] = {name: deque() for name in NAMES}
        self.since: dict[str, int] = dict.fromkeys(NAMES, 0)
        """When the line began to wait for its turn: as it got its first item, or was served."""
        self.now = 0

    def turn(self) -> str | None:
        waiting = [name for name in NAMES if self.lines[name]]
        return min(waiting, key=self.since.__getitem__) if waiting else None


@given(steps)
def test_who_has_waited_longest_for_a_turn_has_the_next(steps: list[tuple[str, object]]) -> None:
    turns: Turns[int] = Turns()
    model = Model()
    for number, (act, argument) in enumerate(steps):
        model.now = number + 1
        turn = model.turn()
        assert turns.head == (None if turn is None else model.lines[turn][0])
        match act, argument:
            case "add", str(name):
                if not model.lines[name]:
                    model.since[name] = model.now
                model.lines[name].append(number)
                turns.add(name, number)
            case "serve", _ if turn is not None:
                model.lines[turn].popleft()
                model.since[turn] = model.now
                turns.serve()
            case "remove", int(which):
                items = [(name, item) for name in NAMES for item in model.lines[name]]
                if items:
                    name, item = items[which % len(items)]
                    model.lines[name].remove(item)
                    turns.remove(name, item)
        assert len(turns) == sum(map(len, model.lines.values()))
        assert sorted(turns) == sorted(item for line in model.lines.values() for item in line)
        assert [turns.count(name) for name in NAMES] == [len(model.lines[name]) for name in NAMES]


@given(st.lists(st.sampled_from(NAMES), max_size=20), st.integers(0, 8), st.sampled_from(NAMES))
def test_what_is_ahead_is_what_is_served_before(added: list[str], served: int, name: str) -> None:
    turns: Turns[int] = Turns()
    for number, each in enumerate(added):
        turns.add(each, number)
    for _ in range(min(served, len(added))):
        turns.serve()
    ahead = turns.ahead(name)
    turns.add(name, -1)
    before = []
    while (head := turns.head) != -1:
        assert head is not None
        before.append(head)
        turns.serve()
    assert sorted(before) == sorted(ahead)


@given(st.lists(st.sampled_from(NAMES), max_size=20))
def test_the_longest_line_gives_up_its_last_item(added: list[str]) -> None:
    turns: Turns[int] = Turns()
    for number, each in enumerate(added):
        turns.add(each, number)
    longest = turns.longest()
    assert turns.count(longest) == max(map(added.count, NAMES))
    if added:
        last = max(number for number, each in enumerate(added) if each == longest)
        assert turns.pop(longest) == last
        assert turns.count(longest) == added.count(longest) - 1
