"""Claims: within a run, a decision runs its calls once, however often a step is attempted.

The theory: a retry of a step, or the next arm of a fallback, may begin with the same conversation
and the same decisions. An arm may call other tools again then (a retry does not: see `reached`); an
action that a person has approved may not be done again. So the first attempt claims the decisions,
and later ones get its results. If the first was cancelled in the middle, nobody knows what was
done, and later ones fail.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from weakref import WeakKeyDictionary

import attrs

from orchestra.errors import InvalidRequestError
from orchestra.policies.account import PRESENT
from orchestra.steps.conversation.approvals import Decisions
from orchestra.values import Message, Part


@attrs.define(eq=False)
class _Claim:
    messages: tuple[Message, ...]
    decisions: Decisions
    parts: tuple[Part, ...] | None = None
    """The results; None until all calls have ended."""


_CLAIMS: WeakKeyDictionary[object, list[_Claim]] = WeakKeyDictionary()
"""The claims of each run that has some, for as long as the run lives."""


async def run_once(
    messages: tuple[Message, ...],
    decisions: Decisions,
    run: Callable[[], Awaitable[tuple[Part, ...]]],
) -> tuple[Part, ...]:
    """The results of `run()`, or of the attempt that had this conversation and decisions before.

    Raises:
        InvalidRequestError: that attempt has not ended, or was cancelled.
    """
    key = PRESENT.get().run_key
    claims = [] if key is None else _CLAIMS.setdefault(key, [])
    for claim in claims:
        if (claim.messages, claim.decisions) == (messages, decisions):
            if claim.parts is None:
                raise InvalidRequestError(
                    "the approved calls were begun by another attempt or arm of this run, and may "
                    "have been done; they are not made twice: look what was done before you run "
                    "them again"
                )
            return claim.parts
    claim = _Claim(messages, dict(decisions))
    claims.append(claim)
    claim.parts = await run()
    return claim.parts
