"""The messages of errors, without what clients must not read. Pure.

Clients get the message of a foreign exception (one that is not `orchestra`'s) only in debug mode,
since it may contain a path, a query or a key; otherwise it is only in the server's log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from orchestra.codecs.withheld import OWNERS, for_clients, is_withheld, without_internals
from orchestra.errors import ArmsFailedError, ModelsFailedError, OrchestraError, StepFailedError
from orchestra.messages import INDENT, below, own_error

_ARMS = re.compile(r"  (?:\d+:\S+: )?(\w+)(?:: |$)|  \d+:\S+: gave ")
_LISTED: Mapping[type[OrchestraError], re.Pattern[str]] = {
    ArmsFailedError: _ARMS,
    StepFailedError: _ARMS,
    ModelsFailedError: re.compile(r"  \S+: (\w+)(?:: |$)"),
}
"""Errors that list others, and the pattern of a line in their list: owner, error type, message."""


def fit_message(name: str, message: str) -> str:
    """The part of an error's message that clients may read; also of the errors that it lists."""
    own = own_error(name)
    if own is None or is_withheld(own):
        return OWNERS if own is None else for_clients(own, message)
    pattern = next((each for kind, each in _LISTED.items() if issubclass(own, kind)), None)
    if pattern is None:
        return without_internals(message)
    head, *lines = message.split("\n")
    return "\n".join(
        [without_internals(head), *(_fit_item(pattern, *item) for item in _items(lines))]
    )


def _items(lines: Iterable[str]) -> list[list[str]]:
    """The lines of each error in a list of errors."""
    items: list[list[str]] = []
    for line in lines:
        if items and line.startswith(INDENT):
            items[-1].append(line.removeprefix(INDENT))
        else:
            items.append([line])
    return items


def _fit_item(pattern: re.Pattern[str], first: str, *further: str) -> str:
    """An item of a list (an error, or an arm's answer), fit for clients."""
    found = pattern.match(first)
    if found is None:
        return f"  {OWNERS}"
    if found[1] is None:
        return without_internals(first)
    message = "\n".join([first[found.end() :], *further])
    start = first[: found.end()].removesuffix(": ")
    return below(f"{start}: {fit_message(found[1], message)}") if message else start
