"""Notifying systemd of this process's state, for services of `Type=notify`.

A datagram to the socket that `NOTIFY_SOCKET` names, as `sd_notify(3)` has it; without one, nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

READY = b"READY=1"
STOPPING = b"STOPPING=1"


def notify(state: bytes, environ: Mapping[str, str] = os.environ) -> None:
    """Send the state to the service manager, if there is one. Errors are ignored."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # how an abstract one is spelled
        address = f"\0{address[1:]}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.setblocking(False)
        line.sendto(state, address)
