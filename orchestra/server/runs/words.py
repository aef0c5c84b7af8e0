"""How log lines describe a run: what was requested, and by whom. Names only. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.codecs.serving.decisive import leaves
from orchestra.errors import ModelError
from orchestra.server.runs.relay import RELAYS

if TYPE_CHECKING:
    from orchestra.accounts import Caller
    from orchestra.engine.run import Run


def model_of(run: Run) -> str | None:
    """The model, route or embedder that the run calls directly; None if it runs a pipeline."""
    return str(run.inputs["model"]) if run.plan.pipeline in RELAYS else None


def asked(run: Run) -> str:
    """What was requested, such as `pipeline 'answer'` or `model 'smart'`, and for whom if known."""
    model = model_of(run)
    what = f"pipeline {run.pipeline!r}" if model is None else f"model {model!r}"
    caller = whose(run.caller)
    return f"{what} for {caller}" if caller else what


def whose(caller: Caller) -> str:
    """The caller, such as `acme/ada (key ID)`; "" if anonymous."""
    owner = "/".join(filter(None, (caller.organisation, caller.user)))
    key = f"(key {caller.key})" if caller.key else ""
    return " ".join(filter(None, (owner, key)))


def failed_at(error: BaseException) -> str:
    """The models whose errors are in `error`, such as ` at model 'fast'`; "" if there are none."""
    errors = (each for each in leaves(error) if isinstance(each, ModelError))
    names = dict.fromkeys(repr(each.name) for each in errors if each.name)
    return f" at model {', '.join(names)}" if names else ""
