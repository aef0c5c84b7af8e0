"""Values of the run that tools need: wires in tools become edges of the step.

`partial(orders, user=user)` holds a wire. The tool is made once, without that parameter, and for
each run only the value is added: the step's argument is a partial of an `Unfilled` tool, which the
engine fills in as it does a list. A wire anywhere else in a function would never get a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import attrs

from orchestra.graph.calls.closures import refuse_wires
from orchestra.graph.parts import is_wired
from orchestra.steps.conversation.tools import FunctionTool, Unfilled, as_tools

_GIVEN = (
    "let the function take the value, and give it with functools.partial: "
    "tools=[partial({tool}, {name}={wire})], with `def {tool}(..., {name}: ...)`"
)


def tools_with_wires(functions: Sequence[Callable[..., object]]) -> tuple[object, ...]:
    """Each function as a tool, or as a partial that makes a tool once its wires have values.

    Raises:
        DefinitionError: as for `as_tools`; or a function holds a wire that would have no value.
    """
    return tuple(map(_open, as_tools(functions)))


def _open(tool: FunctionTool[..., object]) -> object:
    call = tool.call
    wired = isinstance(call, partial) and is_wired(call)
    bare = call.func if wired else call  # type: ignore[attr-defined]
    name = tool.declaration.name
    refuse_wires(bare, f"tool {name!r}", _GIVEN.replace("{tool}", name))
    if not wired:
        return tool
    unfilled = Unfilled(attrs.evolve(tool, call=bare))
    return partial(unfilled, *call.args, **call.keywords)  # type: ignore[attr-defined]
