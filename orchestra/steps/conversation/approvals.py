"""Approvals: calls of a conversation that wait for a person's decision. Pure.

The theory: a call is open if it is in the model's last turn and has no result. Providers refuse a
conversation with an open call, so each of them needs a decision, and a decision counts only for an
open call. Once the call has its result, the same decision fits no longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from types import MappingProxyType
from typing import TypeAlias

from orchestra.codecs.serving.results import result_turns
from orchestra.errors import InvalidRequestError
from orchestra.values import Message, Part, ToolCall, ToolResult

Decisions: TypeAlias = Mapping[str, bool]
"""Whether a call may run, by the id of the call."""
NO_DECISIONS: Decisions = MappingProxyType({})
_REFUSED = "This was not done: a person has refused it."
_SHOWN_MAX = 100


def open_calls(messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    """The calls in the model's last turn that have no result, in order."""
    at = _last_turn(messages)
    if at < 0:
        return ()
    called = [part for part in messages[at].parts if isinstance(part, ToolCall)]
    ended = {part.call_id for part in _results(messages[at + 1 :])} if called else set()
    return tuple(each for each in called if each.id not in ended)


def refuse_misfits(calls: Sequence[ToolCall], decisions: Decisions) -> None:
    """Refuse open calls without a decision, and decisions without an open call.

    Raises:
        InvalidRequestError: there is one; or a decision is neither True nor False.
    """
    for call in calls:
        given: object = decisions.get(call.id)
        if not isinstance(given, bool):
            decision = f"no decision, but {given!r:.100}" if call.id in decisions else "no decision"
            raise InvalidRequestError(
                f"the conversation ends with the call {call.id[:_SHOWN_MAX]!r} of "
                f"{call.name[:_SHOWN_MAX]!r}, which has neither a result nor a decision "
                f"({decision}); add its `ToolResult`, or decide: "
                f"generate(..., approved={{{call.id[:_SHOWN_MAX]!r}: True}})"
            )
    ids = dict.fromkeys(call.id for call in calls)
    wrong = [each for each in decisions if each not in ids]
    if wrong or len(ids) < len(calls):
        what = f"{wrong[0]!r:.100} is not open" if wrong else "several open calls have the same id"
        raise InvalidRequestError(
            f"generate(approved=...): {what}; the open calls of the conversation are: "
            f"{', '.join(ids)[:_SHOWN_MAX] or 'none'}; a decision is for a call without a result, "
            "in the last turn of the model"
        )


def refusal(call: ToolCall) -> ToolResult:
    """The result of a call that a person has refused."""
    return ToolResult(call.id, call.name, _REFUSED, is_error=True)


def with_results(messages: Sequence[Message], parts: Sequence[Part]) -> tuple[Message, ...]:
    """The conversation with these further results of the model's last turn.

    All results of a turn are in one message directly behind it, as providers require, in the order
    of the calls.
    """
    begun = end = _last_turn(messages) + 1
    while end < len(messages) and messages[end].role == "tool":
        end += 1
    calls = (each for each in messages[begun - 1].parts if isinstance(each, ToolCall))
    order = {call.id: at for at, call in enumerate(calls)}

    def place(part: Part) -> float:
        return order.get(part.call_id, inf) if isinstance(part, ToolResult) else inf

    before = [part for each in messages[begun:end] for part in each.parts]
    given = sorted((*before, *parts), key=place)
    return *messages[:begun], *result_turns(given), *messages[end:]


def _last_turn(messages: Sequence[Message]) -> int:
    """The index of the model's last turn; -1 if it has had none."""
    backwards = range(len(messages) - 1, -1, -1)
    return next((at for at in backwards if messages[at].role == "assistant"), -1)


def _results(messages: Iterable[Message]) -> list[ToolResult]:
    return [part for each in messages for part in each.parts if isinstance(part, ToolResult)]
