"""Whether this machine has IPv6: in some containers there is none."""

from __future__ import annotations

import socket

import pytest


def _is_here() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


NEEDED = [
    pytest.mark.may_skip("not every machine has IPv6"),
    pytest.mark.skipif(not _is_here(), reason="there is no IPv6 here"),
]
"""The marks of a test that needs it."""
