"""Notifies systemd of this process's state, for services of `Type=notify`.

The state is sent as a datagram to the socket that `NOTIFY_SOCKET` names, as in `sd_notify(3)`;
without that variable, nothing is sent.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

READY = b"READY=1"
STOPPING = b"STOPPING=1"


def notify(state: bytes) -> None:
    """Send the state to the service manager, if there is one. Errors are ignored."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = f"\0{address[1:]}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(state, address)
