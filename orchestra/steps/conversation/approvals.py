"""Approvals: calls of a conversation that wait for a person's decision. Pure.

The theory: a call is open (`open_calls`) if it is in the model's last turn and has no result.
Providers refuse a conversation with an open call, so each of them needs a decision, and a decision
counts only for an open call. Once the call has its result, the same decision fits no longer.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from orchestra.codecs.serving.results import result_turns
from orchestra.errors import InvalidRequestError
from orchestra.transcripts import Refused, open_calls
from orchestra.values import Message, Part, ToolCall, ToolResult

Decision: TypeAlias = bool | Refused
Decisions: TypeAlias = Mapping[str, Decision]
"""Whether a call may run, by the id of the call."""
NO_DECISIONS: Decisions = MappingProxyType({})
_REFUSED = "This was not done: it was not approved"
_STOPPED = "This was stopped before its end: it may have been done, or a part of it."
_NOT_BEGUN = "This was not done: the run ended before."
_SHOWN_MAX = 100


def refuse_misfits(calls: Sequence[ToolCall], decisions: Decisions) -> None:
    """Refuse open calls without a decision, and decisions without an open call.

    Raises:
        InvalidRequestError: there is one; or a decision is no `Decision`, or they are no mapping.
    """
    found: object = decisions
    if not isinstance(found, Mapping):
        raise InvalidRequestError(
            f"generate(approved={found!r:.100}): decisions are a dict, with the ids of calls as "
            "keys: {call.id: True}"
        )
    for call in calls:
        given: object = decisions.get(call.id)
        if not isinstance(given, Decision):
            decision = f"no decision, but {given!r:.100}" if call.id in decisions else "no decision"
            raise InvalidRequestError(
                f"the conversation ends with the call {call.id[:_SHOWN_MAX]!r} of "
                f"{call.name[:_SHOWN_MAX]!r}, which has neither a result nor a decision "
                f"({decision}); add its `ToolResult`, or decide: "
                f"generate(..., approved={{{call.id[:_SHOWN_MAX]!r}: True, False or Refused(...)}})"
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


def refusal(call: ToolCall, decision: Decision) -> ToolResult:
    """The result of a call that is not approved."""
    reason = decision.reason if isinstance(decision, Refused) else ""
    told = f"{_REFUSED}: {reason}" if reason else f"{_REFUSED}."
    return ToolResult(call.id, call.name, told, is_error=True)


def closed(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation of a run that has ended: of each open call, that it had not begun."""
    return _with_errors(messages, open_calls(messages), _NOT_BEGUN)


def stopped(
    messages: Sequence[Message], parts: Sequence[Part], begun: Container[str]
) -> tuple[Message, ...]:
    """The conversation of calls that were stopped, of which some had ended with these `parts`.

    `begun` has the ids of all that had begun. Of those without a result, nobody knows what was
    done, and the model is told so. The others are still open.
    """
    messages = with_results(messages, parts) if parts else messages
    calls = [each for each in open_calls(messages) if each.id in begun]
    return _with_errors(messages, calls, _STOPPED)


def _with_errors(
    messages: Sequence[Message], calls: Sequence[ToolCall], error: str
) -> tuple[Message, ...]:
    parts = [ToolResult(each.id, each.name, error, is_error=True) for each in calls]
    return with_results(messages, parts) if parts else tuple(messages)


def with_results(messages: Sequence[Message], parts: Sequence[Part]) -> tuple[Message, ...]:
    """The conversation with these further results of the model's last turn.

    All results of a turn are in one message directly behind it, as providers require, in the order
    of the calls.
    """
    begun = end = _last_turn(messages) + 1
    while end < len(messages) and messages[end].role == "tool":
        end += 1
    calls = (each for each in messages[begun - 1].parts if isinstance(each, ToolCall))
    places = {each.id: at for at, each in enumerate(calls)}

    def place(part: Part) -> int:
        last = len(places)
        return places.get(part.call_id, last) if isinstance(part, ToolResult) else last

    before = [part for each in messages[begun:end] for part in each.parts]
    given = sorted((*before, *parts), key=place)
    return *messages[:begun], *result_turns(given), *messages[end:]


def _last_turn(messages: Sequence[Message]) -> int:
    """The index of the model's last turn; -1 if it has had none."""
    backwards = range(len(messages) - 1, -1, -1)
    return next((at for at in backwards if messages[at].role == "assistant"), -1)
