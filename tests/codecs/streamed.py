"""Reads streamed answers in tests, with the decoder of any dialect."""

from __future__ import annotations

from collections.abc import Iterable

from orchestra.answers import Completion
from orchestra.codecs.dialect import Decoder, Dialect
from orchestra.errors import ModelError
from orchestra.values import ModelEvent


def events_of(dialect: Dialect, parts: Iterable[bytes]) -> list[ModelEvent]:
    """All events of an answer that arrives in these parts; raises its error."""
    decoder = dialect.decoder()
    events = [event for part in parts for event in decoder.feed(part)]
    return events + decoder.close()


def outcome_of(decoder: Decoder, parts: Iterable[bytes]) -> tuple[list[ModelEvent], str]:
    """All events, and the error at the end if there is one."""
    events = [event for part in parts for event in decoder.feed(part)]
    try:
        return events + decoder.close(), ""
    except ModelError as error:
        return events, repr(error)


def read_any(dialect: Dialect, parts: list[bytes]) -> None:
    """Read any bytes as a streamed and as a whole answer; fails with an error of another type."""
    for read in (events_of, lambda dialect, all_: dialect.decode(b"".join(all_))):
        try:
            Completion.of(read(dialect, parts))
        except ModelError:
            continue
