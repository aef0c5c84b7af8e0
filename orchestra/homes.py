"""Homes: the module that a public name is imported from, for whoever looks for it in another.

Names are imported from where they live, which nobody can guess; `docs/api.md` has all of them.
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
    "orchestra.citations",
)
"""The modules of `docs/api.md`; where a name is in several, the first of them is told."""


def home_of(name: str) -> str | None:
    """The public module that a name is imported from; None for what is not public."""
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
    """What is raised where a module has no such name: also where it is imported from."""
    said, asking = f"module {module!r} has no attribute {name!r}", sys._getframe(2)  # noqa: SLF001
    if asking.f_code.co_filename.startswith("<frozen "):  # looking whether it is a module
        return AttributeError(said)
    home = home_of(name)
    if home is None:
        return AttributeError(said)
    told = f"{name!r} is not in {module!r}; write `from {home} import {name}`"
    # Of an AttributeError, `from orchestra import ...` would say less than it says.
    return ImportError(told, name=module) if _imports(asking) else AttributeError(told)


def _imports(frame: FrameType) -> bool:
    return frame.f_code.co_code[frame.f_lasti] == opcode.opmap["IMPORT_FROM"]


def _source(module: str) -> str:
    place = Path(__file__).parent.joinpath(*module.split(".")[1:])
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return file.read_text("utf-8")
