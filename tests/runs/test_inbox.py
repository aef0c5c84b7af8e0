"""The inbox of a process: what is in it, and that it is bounded."""

from __future__ import annotations

from collections.abc import Sequence

from orchestra.protocols import Change
from orchestra.runs import inbox

INBOX = inbox.inbox_key("p")


def put(request: inbox.PeerRequest, there: bytes | None) -> bytes | None:
    """What is in the inbox then."""
    change: Change[None] = inbox.put(INBOX, request, [there], 0.0)
    (entry,) = change.entries.values() or (None,)
    return there if entry is None else entry.data


def filled(requests: Sequence[inbox.PeerRequest]) -> bytes | None:
    at: bytes | None = None
    for request in requests:
        at = put(request, at)
    return at


def test_a_full_inbox_takes_no_more_requests_and_keeps_those_that_it_has() -> None:
    requests = [inbox.CancelRequest(f"{at}", "") for at in range(inbox.REQUESTS_MAX)]
    at = filled(requests)
    assert put(inbox.CancelRequest("one more", ""), at) == at
    assert put(requests[0], at) == at, "it is in there"
    assert inbox.opened(at) == tuple(requests)
