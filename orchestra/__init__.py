"""orchestra: pipelines for real-time AI, compiled to a graph and run on Trio.

This module exports what a pipeline module and a script need. Import everything else from the
module that defines it; `docs/api.md` lists all public names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.engine.engine import Engine, open_engine
from orchestra.failed import Failed
from orchestra.graph.control.agreeing import best_of, quorum
from orchestra.graph.control.constructs import collect, each, fallback, race, route
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.rules.commits import chars, chunks, complete, first_content
from orchestra.graph.rules.policy import Limits, Policy, Retry
from orchestra.graph.steps import Step, step
from orchestra.protocols import Context, Stream, injected
from orchestra.script import run

if TYPE_CHECKING:
    from orchestra.portal.portal import open_portal
    from orchestra.steps.prompt import prompt

__all__ = [
    "Context",
    "Engine",
    "Failed",
    "Limits",
    "Pipeline",
    "Policy",
    "Retry",
    "Step",
    "Stream",
    "best_of",
    "chars",
    "chunks",
    "collect",
    "complete",
    "each",
    "fallback",
    "first_content",
    "injected",
    "open_engine",
    "open_portal",
    "pipeline",
    "prompt",
    "quorum",
    "race",
    "route",
    "run",
    "step",
]
__version__ = "0.1.0"


if not TYPE_CHECKING:  # with a `__getattr__`, a type checker would accept every name

    def __getattr__(name: str) -> object:
        if name == "prompt":  # lazy: it imports the ready-made steps
            from orchestra.steps.prompt import prompt as found
        elif name == "open_portal":  # lazy: it imports asyncio, which Trio programs do not need
            from orchestra.portal.portal import open_portal as found
        else:
            from orchestra.homes import missing

            raise missing(__name__, name)
        globals()[name] = found
        return found
