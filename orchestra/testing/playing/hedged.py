"""Hedged races in a world: the times to commit that they learned before the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from orchestra.compiler.picture import picture
from orchestra.compiler.plan import Plan
from orchestra.errors import DefinitionError
from orchestra.graph.nodes import Race
from orchestra.policies.hedge import Hedges, Learned


def teach_hedges(
    hedges: Hedges, plans: Sequence[Plan], times_s: Mapping[str, Sequence[float]]
) -> None:
    """Give the hedged races of plans these times to commit, by path (`inner/race#2`).

    Raises:
        DefinitionError: a path is not that of a hedged race.
    """
    hedged: dict[str, list[Learned]] = {}
    for plan in plans if times_s else ():
        for node, path in picture(plan.pipeline).paths.items():
            if isinstance(node, Race) and node.hedge is not None:
                hedged.setdefault(path, []).append(hedges.of(node, node.hedge))
    for path, times in times_s.items():
        if path not in hedged:
            whose = " or ".join(repr(plan.pipeline.name) for plan in plans)
            raise DefinitionError(
                f"there are times for {path!r}, which is not a hedged race of {whose}; "
                f"{'its' if len(plans) == 1 else 'their'} hedged races are: "
                f"{', '.join(hedged) or 'none'}"
            )
        for learned in hedged[path]:
            for took_s in times:
                learned.saw(took_s, trio.current_time(), committed=True)
