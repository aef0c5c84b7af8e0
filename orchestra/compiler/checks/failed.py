"""Readers of what an `each(..., failures_max=...)` gives that have no place for a `Failed`.

Such a reader would be right for as long as no item fails, which is not what the argument is
for. So "may" is not enough here: a value that holds a failure has to fit as well.
"""

from __future__ import annotations

from orchestra.annotations.builtin_bases import generic
from orchestra.annotations.facts import Fit, chunk_of, compare, spell
from orchestra.annotations.shapes import alternatives, parts, plain
from orchestra.failed import Failed


def refuses_failed(kind: object, expects: object) -> bool:
    """Whether values of a type are taken, but for those in which an item has failed."""
    if chunk_of(kind) is not None and chunk_of(expects) is not None:
        kind, expects = chunk_of(kind), chunk_of(expects)
    failing = _failing(kind)
    return failing is not None and compare(failing, expects) is Fit.CANNOT


def place_for_failed(kind: object) -> str:
    """What to write where a reader has no place for it."""
    return (
        f"annotate it {spell(kind)}, where a `Failed` stands for an item that failed, or leave out "
        "failures_max"
    )


def _failing(kind: object) -> object | None:
    """The type if all items have failed; None where it has no place for that."""
    members = [plain(each) for each in alternatives(plain(kind))]
    found = [each if parts(each)[0] is Failed else _failing_list(each) for each in members]
    return next((each for each in found if each is not None), None)


def _failing_list(kind: object) -> object | None:
    origin, given = parts(kind)
    inner = _failing(given[0]) if origin is list and given else None
    return None if inner is None else generic(list, inner)
