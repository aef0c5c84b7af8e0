"""The index of a tenant's runs: their ids in the order of their starts, in append-only pages. Pure.

The newest page, the head, has a fixed key; a full page moves to a key with its number. The place of
a run is its number among all runs of the tenant, so that a cursor stays valid while other runs
start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from orchestra.protocols import Entry
from orchestra.records import readable

PAGE = 128
"""Runs on a page. Each batch of starts rewrites the head page, which is at most 5 kB."""
PAGES_MAX = 80
"""Full pages that are kept of a tenant, about ten thousand runs; the oldest page is deleted."""
LISTED_MAX = 10_000
"""Pages that a state in memory keeps of one organisation and its end users; the oldest go first."""


class Page(msgspec.Struct, frozen=True):
    """A page of the index: its number, and the ids of its runs, oldest first."""

    number: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    ids: tuple[str, ...] = ()


def page_key(head: str, number: int) -> str:
    """The key of a full page; it equals that of the head up to its last colon: see `keys`."""
    return f"{head}.{number}"


def read(data: bytes | None) -> Page | None:
    """The stored page; None if there is none, or it cannot be read."""
    return readable(_PAGE.decode, data, "a page of runs")


def append(
    head: str, data: bytes | None, ids: Sequence[str], ttl_s: float
) -> dict[str, Entry | None]:
    """The entries that append these runs to the index, except those on the head page already."""
    page = read(data) or Page()
    listed = set(page.ids)
    entries: dict[str, Entry | None] = {}
    for run_id in ids:
        if run_id in listed:
            continue
        if len(page.ids) >= PAGE:
            entries[page_key(head, page.number)] = _entry(page, ttl_s)
            entries[page_key(head, page.number - PAGES_MAX)] = None
            page = Page(page.number + 1)
        page = Page(page.number, (*page.ids, run_id))
    entries[head] = _entry(page, ttl_s)
    return entries


def before(page: Page, cursor: int | None) -> list[tuple[int, str]]:
    """The runs of a page that are older than `cursor`, newest first, as (place, id)."""
    pairs = [*enumerate(page.ids, page.number * PAGE)]
    return [pair for pair in reversed(pairs) if cursor is None or pair[0] < cursor]


def _entry(page: Page, ttl_s: float) -> Entry:
    return Entry(msgspec.msgpack.encode(page), ttl_s, LISTED_MAX)


_PAGE = msgspec.msgpack.Decoder(Page)
