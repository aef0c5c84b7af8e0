"""The runs of a tenant in the order of their starts, in append-only pages. Pure.

The newest page is the head, under a key of its own; a full page moves to a key with its number. The
place of a run is its number among all runs of the tenant, so that a cursor stays valid whatever is
started meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from orchestra.protocols import Entry
from orchestra.records import readable

PAGE = 128
"""Runs on a page: what is written again with each batch of starts is 5 kB at most."""
PAGES_MAX = 80
"""Pages that are kept of a tenant, some ten thousand runs; then the oldest goes."""
LISTED_MAX = 10_000
"""Pages that a state in memory has of one organisation and its end users; the oldest go first."""


class Page(msgspec.Struct, frozen=True):
    """One page: its number, and the ids of its runs, oldest first."""

    number: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    ids: tuple[str, ...] = ()


def page_key(head: str, number: int) -> str:
    """Where a full page is: with the same part before its last colon as the head."""
    return f"{head}.{number}"


def read(data: bytes | None) -> Page | None:
    """A page as it was stored; None where there is none, or none that can be read."""
    return readable(_PAGE.decode, data, "a page of runs")


def append(
    head: str, data: bytes | None, ids: Sequence[str], ttl_s: float
) -> dict[str, Entry | None]:
    """The changes that make these runs the newest; a run on the head page stays there."""
    page = read(data) or Page()
    there = set(page.ids)
    entries: dict[str, Entry | None] = {}
    for run_id in ids:
        if run_id in there:
            continue
        if len(page.ids) >= PAGE:
            entries[page_key(head, page.number)] = _entry(page, ttl_s)
            entries[page_key(head, page.number - PAGES_MAX)] = None
            page = Page(page.number + 1)
        page = Page(page.number, (*page.ids, run_id))
    entries[head] = _entry(page, ttl_s)
    return entries


def before(page: Page, cursor: int | None) -> list[tuple[int, str]]:
    """The runs of a page that are older than the cursor's, newest first, each with its place."""
    pairs = [*enumerate(page.ids, page.number * PAGE)]
    return [pair for pair in reversed(pairs) if cursor is None or pair[0] < cursor]


def _entry(page: Page, ttl_s: float) -> Entry:
    return Entry(msgspec.msgpack.encode(page), ttl_s, LISTED_MAX)


_PAGE = msgspec.msgpack.Decoder(Page)
