"""Homes: find the module that defines a public name, for errors when another module was tried.

Each name is imported from the module that defines it, which is hard to guess; `docs/api.md` lists
all of them.
"""

from __future__ import annotations

import opcode
import re
import sys
from pathlib import Path
from types import FrameType

PUBLIC = (
    *("orchestra", "orchestra.steps", "orchestra.values", "orchestra.errors", "orchestra.events"),
    *("orchestra.protocols", "orchestra.documents", "orchestra.accounts", "orchestra.answers"),
    *("orchestra.testing.simulate", "orchestra.testing.world", "orchestra.testing.scripts"),
    *("orchestra.testing.turns", "orchestra.testing.laws", "orchestra.testing.strategies"),
    *("orchestra.testing.contracts", "orchestra.testing.together"),
    *("orchestra.testing.virtual", "orchestra.testing.deployed", "orchestra.compiler.check"),
    *("orchestra.compiler.plan", "orchestra.problem", "orchestra.engine.run", "orchestra.config"),
    *("orchestra.stores.memory", "orchestra.stores.sqlite", "orchestra.batch.batch"),
    "orchestra.stores.postgres.stores",
    *("orchestra.batch.ledger", "orchestra.steps.ingest", "orchestra.failed", "orchestra.logprobs"),
    *("orchestra.rankings", "orchestra.transcripts"),
    *("orchestra.citations", "orchestra.portal.portal", "orchestra.event_lines"),
    *("orchestra.providers.transport", "orchestra.observe.telemetry"),
    *("orchestra.server.runs.fit_events", "orchestra.server.runs.problems"),
)
"""The modules of `docs/api.md`; if several have a name, the first of them is suggested."""
_GRAPH = "`from orchestra import pipeline, step`: a pipeline is a function that calls its steps"
_APPROVAL = (
    "`from orchestra.steps import tool`, and `@tool(needs_approval=True)`: `generate(messages, "
    "approved=...)` goes on when a person has decided"
)
_INSTEAD = {
    "StateGraph": _GRAPH,
    "START": _GRAPH,
    "END": _GRAPH,
    "RunnableParallel": f"{_GRAPH}, and steps that do not need each other run at once",
    "RunnableLambda": "`from orchestra import step`, and `@step` above the function",
    "Send": "`from orchestra import each`: `each(items, step)`",
    "interrupt": _APPROVAL,
    "Command": _APPROVAL,
    "Depends": "`from orchestra import Context, injected`, and a parameter `context: Context = "
    "injected`; `await context.kept(open_pool)` gives what is opened once",
}
"""What to write in place of well-known names of LangGraph, LangChain and FastAPI."""


def home_of(name: str) -> str | None:
    """The public module to import a name from; None if the name is not public."""
    if not name.isidentifier() or name.startswith("_") or len(name) == 1:
        return None
    exported = re.compile(rf'^__all__ = \[[^\]]*"{name}"', re.MULTILINE)
    made = re.compile(rf"^(?:(?:async )?def|class) {name}\b|^{name}(?:: [^=\n]+)? = ", re.MULTILINE)
    for module in PUBLIC:
        source = _source(module)
        if exported.search(source) or ("__all__" not in source and made.search(source)):
            return module
    return None


def missing(module: str, name: str) -> AttributeError | ImportError:
    """The error for a module that has no such name.

    It says where to import the name from; of some names of other frameworks, what is used here.
    """
    text, caller = f"module {module!r} has no attribute {name!r}", sys._getframe(2)  # noqa: SLF001
    if caller.f_code.co_filename.startswith("<frozen "):  # importlib looks for a submodule first
        return AttributeError(text)
    home = home_of(name)
    if home is None and name not in _INSTEAD:
        return AttributeError(text)
    instead = f"`from {home} import {name}`" if home is not None else _INSTEAD[name]
    text = f"{name!r} is not in {module!r}; write {instead}"
    # `from orchestra import ...` would replace the message of an AttributeError by its own.
    return ImportError(text, name=module) if _imports(caller) else AttributeError(text)


def _imports(frame: FrameType) -> bool:
    return frame.f_code.co_code[frame.f_lasti] == opcode.opmap["IMPORT_FROM"]


def _source(module: str) -> str:
    path = Path(__file__).parent.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.read_text("utf-8")
