"""Resets objects that several simulated runs share: models, errors, and clocks of policies."""

from __future__ import annotations

from collections.abc import Iterator

from orchestra.graph.calls.raised import RunNote
from orchestra.protocols import Model
from orchestra.testing.scripts import Attempts, Fails, Script, Streams
from orchestra.testing.turns import ScriptedAnswers, ScriptedTurns
from orchestra.testing.world import ScriptedModel, StatefulModels, World


def forget_earlier_runs(world: World) -> None:
    """Remove the traces of earlier runs from the world's models and errors."""
    for model in _models(world):
        if isinstance(model, ScriptedModel | ScriptedTurns | ScriptedAnswers):
            model.asked.clear()
    for error in _errors(world):
        notes = getattr(error, "__notes__", [])
        kept = [note for note in notes if not isinstance(note, RunNote)]
        if len(kept) < len(notes):
            error.__notes__ = kept


def update_clocks(world: World) -> None:
    """Update the clocks of policies that last from run to run. Call it within a run."""
    if isinstance(world.models, StatefulModels):
        world.models.update_clocks()


def _models(world: World) -> Iterator[Model | None]:
    models = world.models
    yield from (models.stand_ins if isinstance(models, StatefulModels) else models).values()


def _errors(world: World) -> Iterator[Exception]:
    for script in world.steps.values():
        yield from _of_script(script)
    for model in _models(world):
        for each in model.turns if isinstance(model, ScriptedTurns) else (model,):
            if isinstance(each, ScriptedModel) and each.error is not None:
                yield each.error


def _of_script(script: Script) -> Iterator[Exception]:
    for each in script.scripts if isinstance(script, Attempts) else (script,):
        if isinstance(each, Fails | Streams) and each.error is not None:
            yield each.error
