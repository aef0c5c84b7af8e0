"""What is told of a model's call when it has ended, to whoever counts calls."""

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
    """A call that a model was asked for, and that has ended; one that was refused is none.

    `run_id` and `step` are those that asked, of a shared call those that asked first; "" of none.
    `model` is its name in this deployment, `request_model` the provider's own. Times are from the
    moment at which it had leave to call; `first_chunk_s` is None where nothing came, and of an
    answer that is not streamed. `error` is the class of what it ended with, `cancelled` where
    nobody waited for its end, "" of a whole answer. `usage` has its cost; None where it was given
    nothing to do. `settings` are the numbers that the request set, under their names there. The
    rest is what the provider said of its answer, and where it was asked; "" and 0 where unknown.
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
"""While a `StepCoalesced` is written down, whose call is shared: their run's id, and their step. It
does not stand in the event, which a user reads who need not know of others' runs."""

OnCall: TypeAlias = Callable[[CallEnded], None]
"""Is told at once, in the task of the call; it neither waits nor raises."""


class Teller(msgspec.Struct, frozen=True):
    """Whom the calls of a model are told to, and as what."""

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
    """What a call ended with, in a word."""
    if error is None:
        return "" if whole else CANCELLED
    return CANCELLED if isinstance(error, trio.Cancelled) else type(error).__name__
