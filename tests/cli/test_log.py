"""The log: nobody but us writes an entry, whatever a provider or a client says."""

from __future__ import annotations

import logging

from hypothesis import given
from hypothesis import strategies as st

from orchestra.cli.log import EntryFormatter, with_request_id

FORGED = "no\n2026-11-28 17:00:00,000 INFO orchestra.server: key ABC was created \x1b[31mRED\x1b[0m"


def entry(message: str, error: Exception | None = None) -> str:
    told = (type(error), error, None) if error is not None else None
    record = logging.LogRecord("orchestra", logging.ERROR, __file__, 1, "%s", (message,), told)
    assert with_request_id(record)
    return EntryFormatter("%(levelname)s %(name)s%(request)s: %(message)s").format(record)


def test_what_looks_like_an_entry_is_seen_to_be_none() -> None:
    assert entry(FORGED).split("\n") == [
        "ERROR orchestra: no",
        "  | 2026-11-28 17:00:00,000 INFO orchestra.server: key ABC was created "
        "\\x1b[31mRED\\x1b[0m",
    ]


def test_a_traceback_stands_below_its_entry() -> None:
    first, *below = entry("it failed", ValueError(FORGED)).split("\n")
    assert first == "ERROR orchestra: it failed"
    assert below[0] == "  | ValueError: no"
    assert "\x1b" not in below[1]


@given(st.text())
def test_an_entry_is_one_line_and_marked_ones(message: str) -> None:
    first, *below = entry(message, ValueError(message)).splitlines()
    assert first.startswith("ERROR orchestra: ")
    assert all(line.startswith("  | ") for line in below)
    shown = entry(message).replace("\n", "").replace("\t", "")
    assert not any(ord(each) < 0x20 or 0x7F <= ord(each) < 0xA0 for each in shown)


def test_other_words_are_told_as_they_are() -> None:
    assert entry("naïve café\tdé “à” 漢字 🎻") == "ERROR orchestra: naïve café\tdé “à” 漢字 🎻"
