"""Hedged races in a world: what they are to have learned before the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from orchestra.compiler.picture import picture
from orchestra.compiler.plan import Plan
from orchestra.errors import DefinitionError
from orchestra.graph.nodes import Race
from orchestra.policies.hedge import Hedges


def remember(hedges: Hedges, plan: Plan, times_s: Mapping[str, Sequence[float]]) -> None:
    """Let the hedged races of a plan have seen these times to commit, by path (`inner/race#2`).

    Raises:
        DefinitionError: a path is that of no hedged race.
    """
    races = {path: node for node, path in picture(plan.pipeline).paths.items()}
    for path, times in times_s.items():
        node = races.get(path)
        if not isinstance(node, Race) or node.hedge is None:
            known = (p for p, n in races.items() if isinstance(n, Race) and n.hedge is not None)
            raise DefinitionError(
                f"there are times for {path!r}, which is no hedged race of "
                f"{plan.pipeline.name!r}; its hedged races are: {', '.join(known) or 'none'}"
            )
        learned = hedges.of(node, node.hedge)
        for took_s in times:
            learned.saw(took_s, trio.current_time(), committed=True)
