"""Checks of the headers in a model's table; each complaint has the header's line. Pure."""

from __future__ import annotations

import re

from orchestra.config.toml.checking import KEY_ELSEWHERE, NO_SECRETS, Table
from orchestra.config.toml.complaints import Complaints, names_a_secret, shown
from orchestra.config.toml.places import Path as Place

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_|~-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_OF_EACH = ("content-length", "transfer-encoding")
"""Headers that describe the body of one request."""


def check_headers(headers: Table, at: Place, complaints: Complaints) -> None:
    """Complain of API keys, of headers that HTTP does not allow, and of duplicates."""
    seen: dict[str, str] = {}
    for name, value in headers.items():
        place = (*at, name)
        if names_a_secret(name):
            complaints.add("secret-in-file", place, NO_SECRETS, KEY_ELSEWHERE)
        elif not _NAME.fullmatch(name):
            message = "it is not a valid name of a header"
            complaints.add("wrong-value", place, message, "letters, digits and -, as in X-Team")
        elif not isinstance(value, str) or not _VALUE.fullmatch(value):
            message = f"{shown(value, name)} is not a text of printable ASCII"
            complaints.add("wrong-value", place, message, f'{name} = "search"')
        elif name.lower() in _OF_EACH:
            message = "it is set by each request itself"
            complaints.add("wrong-value", place, message, "leave it out")
        elif name.lower() in seen:
            message = f"it is the same header as {seen[name.lower()]}"
            complaints.add("wrong-value", place, message, "leave one of them out")
        seen[name.lower()] = name
