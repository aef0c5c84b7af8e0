"""The log of a server, on standard error: an entry is one line, and what belongs to it below.

Providers and clients have a word in it. So that none of them can write an entry of its own, or
make a terminal do what it says, all but the first line is marked, and control characters are
told by their escapes.
"""

from __future__ import annotations

import logging

LOG_FORMAT = "%(asctime)s %(levelname)s {who}%(name)s%(request)s: %(message)s"
_BELOW = "\n  | "
_HIDDEN = (
    *range(0x20),
    *range(0x7F, 0xA0),
    *(0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)),  # lines, and which way
)
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in _HIDDEN if chr(code) not in "\t\n"}


def begin_log(who: str) -> None:
    """Log to standard error; each line says who of several processes writes it."""
    handler = logging.StreamHandler()
    handler.setFormatter(EntryFormatter(LOG_FORMAT.replace("{who}", who)))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for each in logging.getLogger().handlers:
        each.addFilter(with_request_id)


class EntryFormatter(logging.Formatter):
    """Formats entries of which nobody else can write one."""

    def format(self, record: logging.LogRecord) -> str:
        """An entry, with its traceback."""
        return super().format(record).translate(_ESCAPES).replace("\n", _BELOW)


def with_request_id(record: logging.LogRecord) -> bool:
    """True; a line of the log gets the id of the request that its task serves."""
    from orchestra.server.arrival import REQUEST_ID

    found = REQUEST_ID.get()
    record.request = f" [{found}]" if found else ""
    return True
