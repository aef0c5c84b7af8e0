"""Anew: what many runs share, without what those before have left on it."""

from __future__ import annotations

from collections.abc import Iterator

from orchestra.graph.raised import RunNote
from orchestra.testing.scripts import Attempts, Fails, Script, Streams
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import ScriptedModel, World


def begin_anew(world: World) -> None:
    """Let a run know nothing of those before, which had the same errors and models."""
    for model in world.models.values():
        if isinstance(model, ScriptedTurns):
            model.asked.clear()
    for error in _errors(world):
        notes = getattr(error, "__notes__", [])
        kept = [note for note in notes if not isinstance(note, RunNote)]
        if len(kept) < len(notes):
            error.__notes__ = kept


def _errors(world: World) -> Iterator[Exception]:
    for script in world.steps.values():
        yield from _of_script(script)
    for model in world.models.values():
        for each in model.turns if isinstance(model, ScriptedTurns) else (model,):
            if isinstance(each, ScriptedModel) and each.error is not None:
                yield each.error


def _of_script(script: Script) -> Iterator[Exception]:
    for each in script.scripts if isinstance(script, Attempts) else (script,):
        if isinstance(each, Fails | Streams) and each.error is not None:
            yield each.error
