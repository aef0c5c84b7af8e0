"""The parts of errors that clients must not read, in any dialect, nor models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from orchestra.errors import (
    ArmsFailedError,
    AuthenticationError,
    BindingError,
    LimitReachedError,
    LimitUnknownError,
    MalformedStreamError,
    ModelConnectionError,
    ModelNotFoundError,
    ModelsFailedError,
    OrchestraError,
    OverloadedError,
    PermissionDeniedError,
    ProviderServerError,
    QuotaError,
    RateLimitError,
    StateError,
    StepFailedError,
    StoreError,
)
from orchestra.messages import INDENT, below, own_error

OWNERS = "its message is shown only to the server's owner"
"""The text in place of a message that only the server's owner may read."""
_LOG = "the server's log says more"
WITHHELD: Mapping[type[OrchestraError], str] = {
    LimitUnknownError: f"your limits cannot be checked at the moment; try again later; {_LOG}",
    AuthenticationError: f"the model's provider does not accept this server's key; {_LOG}",
    PermissionDeniedError: f"the model's provider does not let this server do that; {_LOG}",
    QuotaError: f"this server's quota at the model's provider is used up; {_LOG}",
    ModelNotFoundError: f"the model's provider does not know the model; {_LOG}",
    RateLimitError: "the model's provider limits this server's rate at the moment; try again later",
    ModelConnectionError: f"the connection to the model's provider failed; {_LOG}",
    MalformedStreamError: f"the model's provider sent an answer that cannot be read; {_LOG}",
    ProviderServerError: f"the model's provider failed; {_LOG}",
    OverloadedError: "the model's provider is overloaded at the moment; try again later",
    BindingError: f"this server is not set up for that; {_LOG}",
    StateError: f"this server's state cannot be reached at the moment; try again later; {_LOG}",
    StoreError: OWNERS,
}
"""Errors whose messages contain keys, accounts, hosts or files, or quote a provider. Clients get
the class and this text; the log has the rest.
"""
_READABLE = (LimitReachedError,)
"""Our own subclasses of these errors, whose messages clients may read."""
BEGAN_WITH = "; it began with "
"""In messages about a cut answer or a proxy's page, the received bytes follow this text."""
_INTERNALS = re.compile(rf"(?<=_s = )([\d.e+-]+) from [^\s;]+(?=;)|{BEGAN_WITH}.*")


_ARMS = re.compile(r"  (?:\d+:\S+: )?(\w+)(?:: |$)|  \d+:\S+: gave ")
_LISTED: Mapping[type[OrchestraError], re.Pattern[str]] = {
    ArmsFailedError: _ARMS,
    StepFailedError: _ARMS,
    ModelsFailedError: re.compile(r"  \S+: (\w+)(?:: |$)"),
}
"""Errors that list others, and the pattern of a line in their list: owner, error type, message."""


def is_withheld(kind: type[BaseException]) -> bool:
    """Whether the messages of these errors are withheld from clients."""
    if kind in WITHHELD:
        return True
    return issubclass(kind, tuple(WITHHELD)) and not issubclass(kind, _READABLE)


def for_clients(kind: type[BaseException], message: str) -> str:
    """The message of an error of this class, in the form that clients may read."""
    if is_withheld(kind):
        return next(words for each, words in WITHHELD.items() if issubclass(kind, each))
    return without_internals(message)


def without_internals(message: str) -> str:
    """A message without the hosts and the received bytes that it names."""
    return _INTERNALS.sub(lambda found: found[1] or "", message)


def fit_message(name: str, message: str) -> str:
    """The part of an error's message that clients may read; also of the errors that it lists.

    `name` is the `class_name` of the error.
    """
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
