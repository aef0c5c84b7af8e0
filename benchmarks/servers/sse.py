"""The event that the peers' servers write: as long, and as well-formed, as ours."""

from __future__ import annotations

import json


def event(seq: int, at_s: float) -> bytes:
    """A delta as Server-Sent Event."""
    data = json.dumps({"type": "delta", "seq": seq, "at_s": at_s, "chunk": "token "})
    return f"id: {seq}\nevent: delta\ndata: {data}\n\n".encode()
