"""How many tool calls an answer may have, in every dialect.

Each is run, kept and sent back: of an answer that goes on calling, nobody wants the rest.
"""

from __future__ import annotations

from orchestra.errors import MalformedStreamError

CALLS_MAX = 500


def next_call(calls: int) -> int:
    """The number of the next call of an answer, from 0, behind as many.

    Raises:
        MalformedStreamError: it has as many as an answer may have.
    """
    if calls >= CALLS_MAX:
        raise MalformedStreamError(
            f"the answer calls tools more than {CALLS_MAX} times; ask for less at once, or forbid "
            "it with `parallel_tool_calls=False`"
        )
    return calls
