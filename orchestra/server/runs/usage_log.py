"""The usage log: one log line for each ended run, with its caller and what it consumed.

It has names and numbers only, and no content of requests or answers. The message of each line is
one JSON object, so that a handler of the logger `orchestra.usage` can pass it on unchanged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import msgspec

from orchestra.accounts import Usage
from orchestra.events import RunFailed, Terminal
from orchestra.policies.money.prices import in_dollars
from orchestra.server.runs.words import model_of

if TYPE_CHECKING:
    from orchestra.engine.run import Run

log = logging.getLogger("orchestra.usage")

_NOTHING = Usage()


class ModelUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a run's usage that one model has consumed."""

    input_tokens: int
    output_tokens: int
    cost_dollars: msgspec.Raw
    unpriced_calls: int


class RunUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The entry of a run.

    `model` is the requested name if a model was called directly; `pipeline` is None then. `routed`
    are the models of routes that started to answer, each once, and `models` the usage of each model
    by its name, also of those that the pipeline names. `tags` are the caller's. `error` is the
    class of the error with which the run failed. `first_chunk_s` is when the first chunk of output
    came, and `duration_s` when the run ended, both since its start; `ended_s` is since 1970. Tokens
    are as in `Usage`; calls without a known price are counted in `unpriced_calls`, not in the cost.
    """

    ended_s: float
    run_id: str
    request_id: str
    pipeline: str | None
    model: str | None
    routed: tuple[str, ...]
    models: Mapping[str, ModelUsage]
    organisation: str
    user: str
    key: str
    tags: Mapping[str, str]
    status: str
    error: str | None
    input_tokens: int
    cached_input_tokens: int
    cache_write_input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    certainty: str | None
    cost_dollars: msgspec.Raw
    unpriced_calls: int
    first_chunk_s: float | None
    duration_s: float


def tell_usage(run: Run, now_s: Callable[[], float] = time.time) -> None:
    """Log what an ended run consumed."""
    if log.isEnabledFor(logging.INFO):
        log.info("%s", msgspec.json.encode(usage_of(run, now_s())).decode())


def usage_of(run: Run, ended_s: float) -> RunUsage:
    """The entry of an ended run."""
    last = cast("Terminal", run.journal.last)
    usage, model, first_s = last.usage or _NOTHING, model_of(run), run.journal.first_chunk_s
    return RunUsage(
        ended_s=round(ended_s, 3),
        run_id=run.id,
        request_id=run.request_id,
        pipeline=run.pipeline if model is None else None,
        model=model,
        routed=run.routed,
        models={name: _of_model(each) for name, each in last.usage_by_model.items()},
        organisation=run.caller.organisation,
        user=run.caller.user,
        key=run.caller.key,
        tags=run.tags,
        status=last.type.removeprefix("run."),
        error=last.error if isinstance(last, RunFailed) else None,
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_input_tokens=usage.cache_write_input_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        certainty=None if last.usage is None else usage.certainty.value,
        cost_dollars=_dollars(usage),
        unpriced_calls=usage.unpriced_calls,
        first_chunk_s=None if first_s is None else round(first_s, 6),
        duration_s=round(last.at_s, 6),
    )


def _of_model(usage: Usage) -> ModelUsage:
    return ModelUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_dollars=_dollars(usage),
        unpriced_calls=usage.unpriced_calls,
    )


def _dollars(usage: Usage) -> msgspec.Raw:
    """The cost as a number of JSON, exactly."""
    return msgspec.Raw(in_dollars(usage.cost_nanodollars)[1:].encode())
