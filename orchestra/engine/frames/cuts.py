"""Cuts: whether a result was made from a model's answer that was cut at its `output_tokens_max`.

The theory: a step that calls models, or runs pipelines, is cut if the last answer that it got from
one of them was cut, or if a stream that it reads was, since it may pass that on. A choice is cut if
the arm that it took is, an `each` if its list or one of its items is, and every other step if one
of its inputs is: half of a text gives half of a result. The inputs of a pipeline that a step runs
are cut if the step is, when it runs the pipeline. So a cut answer in the prompt of a later
model, a label by which a route chose, or the answer of a losing arm makes nothing cut. Nothing is
recorded before the first cut of a run: answers before it cannot have had cut input.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestra.compiler.blocks.slots import Operation, all_sources

if TYPE_CHECKING:
    from orchestra.engine.frames.frame import Frame
    from orchestra.graph.nodes import Node


def is_cut(frame: Frame, slot: int) -> bool:
    """Whether the value in a slot of the frame was made from a cut answer."""
    cuts = frame.run.cuts
    left, seen = [slot] if cuts else [], set[int]()
    while left:
        slot = left.pop()
        if slot in seen:
            continue
        seen.add(slot)
        operation = frame.block.operations[slot]
        if operation is None:
            if _is_cut_outside(frame, slot):
                return True
            continue
        cut = cuts.get(frame.path + operation.name)
        if cut:
            return True
        asked = cut is not None
        left += [read.slot for read in operation.streams] if asked else _made_from(frame, operation)
    return False


def _is_cut_outside(frame: Frame, slot: int) -> bool:
    """Whether an input, or a value imported from the enclosing frame, is cut."""
    if frame.above is None:
        return frame.nesting.cut  # inputs of the run never are
    found = [there for there, here in frame.block.imports if here == slot]
    return any(is_cut(frame.above, there) for there in found)


def models_answered(frame: Frame) -> bool:
    """Whether a model has answered in the frame, or in one inside it, since the first cut."""
    return any(step.startswith(frame.path) for step in frame.run.cuts)


def forget_cuts(frame: Frame) -> None:
    """Forget the steps of a frame that has ended, since an `each` may have very many items.

    For `models_answered`, the items of an `each` in which models answered leave one entry.
    """
    cuts = frame.run.cuts
    steps = [step for step in cuts if step.startswith(frame.path)]
    for step in steps:
        del cuts[step]
    if steps and frame.above is not None:
        items, _, _ = frame.path.rpartition("[")
        cuts[f"{items}[*]"] = False


def _made_from(frame: Frame, operation: Operation[Node]) -> Iterable[int]:
    """The slots that the output of an operation was made from."""
    if not operation.regions:
        return [source.slot for source in all_sources(operation.sources, operation.nested)]
    taken = frame.taken.get(operation.slot, ())  # () where a reader left before anything was taken
    return [frame.block.regions[region].source.slot for region in taken]
