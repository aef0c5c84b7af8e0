"""API keys: what one looks like, what is kept of it, and who is let in with it. Pure."""

from __future__ import annotations

import attrs


@attrs.frozen
class Refusal:
    """Why a token lets nobody in.

    `reason` is what the client is told: `malformed`, `unknown`, `expired` or `revoked`. `detail`
    is a sentence for the log, which may say more; it never holds a secret.
    """

    reason: str
    detail: str
