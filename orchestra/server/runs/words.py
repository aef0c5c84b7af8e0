"""How a run is called in the log: what was asked, and by whom. Names only. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.codecs.serving.decisive import leaves
from orchestra.errors import ModelError
from orchestra.server.runs.relay import RELAYS

if TYPE_CHECKING:
    from orchestra.accounts import Caller
    from orchestra.engine.run import Run


def model_of(run: Run) -> str | None:
    """The name of the model, route or embedder that was asked without a pipeline, if one was."""
    return str(run.inputs["model"]) if run.plan.pipeline in RELAYS else None


def asked(run: Run) -> str:
    """`pipeline 'answer'`, or `model 'smart'`; and for whom, as far as that is known."""
    model = model_of(run)
    what = f"pipeline {run.pipeline!r}" if model is None else f"model {model!r}"
    caller = whose(run.caller)
    return f"{what} for {caller}" if caller else what


def whose(caller: Caller) -> str:
    """`acme/ada (key ID)`; "" where nobody knows."""
    owner = "/".join(filter(None, (caller.organisation, caller.user)))
    key = f"(key {caller.key})" if caller.key else ""
    return " ".join(filter(None, (owner, key)))


def failed_at(error: BaseException) -> str:
    """` at model 'fast'`: the configured names of the models whose errors are in it, if any are."""
    errors = (each for each in leaves(error) if isinstance(each, ModelError))
    names = dict.fromkeys(repr(each.name) for each in errors if each.name)
    return f" at model {', '.join(names)}" if names else ""
