"""How far a conversation has come, for a retry of the step to go on from.

The theory: a failed call of a model is asked again with the conversation as it was, and no tool
call is made twice for it. So each attempt of a step leaves how far its conversations have come: the
request of the next round and, if calls of the last round are running, how far these are. The next
attempt takes what was left by a conversation that began in the same way, with the same request,
model, decisions and tools. A tool is the same if it is the same function with equal bound
arguments: a function that is defined anew in each attempt may hold something else.

Nothing is left for the arm of a race or fallback, which is a step of its own, for a conversation in
a tool, or for another run. A conversation whose text was passed on is never asked again.
"""

from __future__ import annotations

from functools import partial

import attrs

from orchestra.answers import Completion
from orchestra.policies.account import Attempt
from orchestra.protocols import Context
from orchestra.steps.conversation.calling import Progress
from orchestra.steps.conversation.options import GenerateSettings
from orchestra.steps.conversation.pipeline_tools import pipeline_of
from orchestra.steps.conversation.tools import FunctionTool
from orchestra.values import ChatRequest, StopReason


def apart(before: str, text: str) -> str:
    """A text to follow another round's: after an empty line, unless white space separates them."""
    joined = before[-1].isspace() or text[0].isspace()
    return text if joined else f"\n\n{text}"


@attrs.define(eq=False)
class Reached:
    """How far the conversation that began with `asked` has come."""

    asked: ChatRequest
    settings: GenerateSettings
    returns: object
    """The type of the object that is asked for; None for text."""
    request: ChatRequest = attrs.field(
        default=attrs.Factory(lambda self: self.asked, takes_self=True)
    )
    """The request of the next round."""
    running: Progress | None = None
    """How far the calls are that this request has no results of."""
    rounds: int = 0
    text: str = ""
    """The text of all rounds."""
    before: str = ""
    """The text that an empty line has to separate from the next round's text.

    Empty after a paused round, whose text the next round continues."""

    def add(self, ended: Completion) -> None:
        """Count a round that is not the last, and add its text."""
        self.rounds += 1
        if ended.text:
            self.text += apart(self.before, ended.text) if self.before else ended.text
            self.before = "" if ended.stopped.reason is StopReason.PAUSED else ended.text

    def begins_as(self, other: Reached) -> bool:
        """Whether both conversations began in the same way."""
        try:
            return self._beginning() == other._beginning()
        except Exception:  # noqa: BLE001 - of a bound argument that cannot be compared, as an array
            return False

    def _beginning(self) -> tuple[object, ...]:
        settings = self.settings
        tools = list(map(_function, settings.tools))
        return self.returns, self.asked, settings.model, settings.approved, tools


def reached_before(new: Reached, context: Context) -> Reached:
    """How far an earlier attempt has come with the same conversation; `new` if there is none."""
    attempt: Attempt | None = getattr(context, "attempt", None)  # a test's fake has none
    if attempt is None:
        return new
    earlier = (each for each in attempt.earlier if isinstance(each, Reached))
    found = next((each for each in earlier if new.begins_as(each)), None)
    if found is not None:
        attempt.earlier.remove(found)
        new = attrs.evolve(found, settings=new.settings)
    attempt.left.append(new)
    return new


def _function(tool: FunctionTool[..., object]) -> tuple[object, object, object]:
    """The function of a tool, or its pipeline, and the bound arguments."""
    call = tool.call
    if isinstance(call, partial):
        return pipeline_of(call.func) or call.func, call.args, call.keywords
    return pipeline_of(call) or call, (), {}
