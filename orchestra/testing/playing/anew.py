"""Anew: what many runs share, without what those before have left on it."""

from __future__ import annotations

from collections.abc import Iterator

from orchestra.graph.calls.raised import RunNote
from orchestra.protocols import Model
from orchestra.testing.scripts import Attempts, Fails, Script, Streams
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import Lasting, ScriptedModel, World


def begin_anew(world: World) -> None:
    """Let a run know nothing of those before, which had the same errors and models."""
    for model in _models(world):
        if isinstance(model, ScriptedTurns):
            model.asked.clear()
    for error in _errors(world):
        notes = getattr(error, "__notes__", [])
        kept = [note for note in notes if not isinstance(note, RunNote)]
        if len(kept) < len(notes):
            error.__notes__ = kept


def look(world: World) -> None:
    """Let what the world remembers from run to run see what time it is; in a run."""
    if isinstance(world.models, Lasting):
        world.models.look()


def _models(world: World) -> Iterator[Model | None]:
    models = world.models
    yield from (models.stand_ins if isinstance(models, Lasting) else models).values()


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
