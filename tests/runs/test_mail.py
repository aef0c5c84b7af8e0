"""The box of a process: what is in there, and that it does not grow for ever."""

from __future__ import annotations

from collections.abc import Sequence

from orchestra.protocols import Change
from orchestra.runs import mail

BOX = mail.box_key("p")


def put(letter: mail.Letter, there: bytes | None) -> tuple[bool, bytes | None]:
    """Whether it is in the box then, and what is in there."""
    change: Change[bool] = mail.put(BOX, letter, [there], 0.0)
    (entry,) = change.entries.values() or (None,)
    return change.result, there if entry is None else entry.data


def filled(letters: Sequence[mail.Letter]) -> bytes | None:
    box: bytes | None = None
    for letter in letters:
        taken, box = put(letter, box)
        assert taken
    return box


def test_a_full_box_takes_no_letter_more_and_keeps_those_that_it_has() -> None:
    letters = [mail.CancelLetter(f"{at}", "") for at in range(mail.LETTERS_MAX)]
    box = filled(letters)
    assert put(mail.CancelLetter("one more", ""), box) == (False, box)
    assert put(letters[0], box) == (True, box), "it is in there"
    assert mail.opened(box) == tuple(letters)
