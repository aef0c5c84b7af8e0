"""The report of an ended call of a model, for observers of calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TypeAlias

import msgspec
import trio

from orchestra.accounts import Usage
from orchestra.values import ChatRequest, EmbedRequest

CANCELLED = "cancelled"


class CallEnded(msgspec.Struct, frozen=True, kw_only=True):
    """The report of a call of a model that has ended; refused calls have none.

    `run_id` and `step` are those of the caller, of a shared call the first caller's; "" outside
    runs. `model` is the name in this deployment, `request_model` the provider's. Times count from
    the admission of the call; `first_chunk_s` is None without output, and for an answer that is not
    streamed. `error` is the class of its error, `cancelled` if it was left before its end, "" for
    a complete answer. `usage` has its cost; None if nothing was used. `settings` are the numbers
    that the request set, by field. The rest is what the provider said about its answer, and its
    address; "" and 0 if unknown.
    """

    run_id: str
    step: str
    model: str
    provider: str
    request_model: str
    embeds: bool
    streams: bool
    duration_s: float
    first_chunk_s: float | None
    error: str
    usage: Usage | None
    settings: Mapping[str, float] = {}
    answer_id: str = ""
    answer_model: str = ""
    finish_reason: str = ""
    address: str = ""
    port: int = 0


ASKED_FIRST: ContextVar[tuple[str, str]] = ContextVar("asked_first", default=("", ""))
"""While a `StepCoalesced` is recorded: run id and step of the caller whose call is shared.
They are not in the event, since its readers must not learn of other callers' runs."""

OnCall: TypeAlias = Callable[[CallEnded], None]
"""Called at once, in the task of the call; must neither wait nor raise."""


class Teller(msgspec.Struct, frozen=True):
    """The observer of a model's calls, and the model's names in reports."""

    on_call: OnCall
    provider: str
    request_model: str
    address: str = ""
    port: int = 0


SETTINGS = (
    *("temperature", "top_p", "top_k", "seed", "output_tokens_max"),
    *("presence_penalty", "frequency_penalty", "dimensions"),
)


def settings_of(request: ChatRequest | EmbedRequest) -> dict[str, float]:
    """The numbers that a request sets, under their names there."""
    return {
        name: value
        for name in SETTINGS
        if (value := getattr(request, name, None)) is not None  # each kind has some
    }


def error_of(error: BaseException | None, *, whole: bool) -> str:
    """How a call ended, in one word."""
    if error is None:
        return "" if whole else CANCELLED
    return CANCELLED if isinstance(error, trio.Cancelled) else type(error).__name__
