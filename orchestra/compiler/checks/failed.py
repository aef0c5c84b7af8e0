"""Readers of the result of `each(..., failures_max=...)` that do not accept a `Failed`.

Such a reader works as long as no item fails; but the argument is for items that fail. So
MAY is not enough here: a value that contains a `Failed` has to fit as well.
"""

from __future__ import annotations

from orchestra.annotations.builtin_bases import generic
from orchestra.annotations.facts import Fit, chunk_of, compare, spell
from orchestra.annotations.shapes import alternatives, parts, plain
from orchestra.failed import Failed


def refuses_failed(kind: object, expects: object) -> bool:
    """Whether a reader accepts values of a type, but not those that contain a `Failed`."""
    if chunk_of(kind) is not None and chunk_of(expects) is not None:
        kind, expects = chunk_of(kind), chunk_of(expects)
    failing = _failing(kind)
    return failing is not None and compare(failing, expects) is Fit.CANNOT


def place_for_failed(kind: object) -> str:
    """What to write where a reader does not accept a `Failed`."""
    return (
        f"annotate it {spell(kind)}, where a `Failed` stands for an item that failed, or leave out "
        "failures_max"
    )


def _failing(kind: object) -> object | None:
    """The type of a result in which all items have failed; None if it contains no `Failed`."""
    members = [plain(each) for each in alternatives(plain(kind))]
    found = [each if parts(each)[0] is Failed else _failing_list(each) for each in members]
    return next((each for each in found if each is not None), None)


def _failing_list(kind: object) -> object | None:
    origin, given = parts(kind)
    inner = _failing(given[0]) if origin is list and given else None
    return None if inner is None else generic(list, inner)
