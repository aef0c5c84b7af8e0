"""The report of an ended model call, for observers of calls."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import trio

from orchestra.accounts import Usage
from orchestra.rankings import AnyRequest, RerankRequest
from orchestra.values import ChatRequest, EmbedRequest

if TYPE_CHECKING:
    from orchestra.events import Event
    from orchestra.policies.money.ledger import Reached, Refusal

CANCELLED = "cancelled"
CHAT, EMBEDDINGS, RERANK = "chat", "embeddings", "rerank"
OPERATIONS: Mapping[type[AnyRequest], str] = {
    ChatRequest: CHAT,
    EmbedRequest: EMBEDDINGS,
    RerankRequest: RERANK,
}
"""What a call does, named as in OpenTelemetry's conventions; they have no name for reranking."""


class CallEnded(msgspec.Struct, frozen=True, kw_only=True):
    """The report of an ended model call; a call that was refused has none.

    `run_id` and `step` belong to the caller, or to the first caller of a shared call; they are ""
    outside runs. `model` is the model's name in this deployment, `request_model` the provider's
    name for it; `operation` is one of `OPERATIONS`. Times count from the admission of the call;
    `first_chunk_s` is None without output, and for an answer that is not streamed. `error` is the
    class name of the error, "cancelled" if the call was left before its end, "" for a complete
    answer. `usage` includes the cost; None if nothing was used. `settings` are the numeric settings
    of the request, by field. The other fields are the provider's metadata of the answer, and its
    address; "" and 0 if unknown.
    """

    run_id: str
    step: str
    model: str
    provider: str
    request_model: str
    operation: str
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
"""While a `StepCoalesced` is recorded: the run id and step of the caller that started the call.
They are not in the event, because its readers must not learn about other callers' runs."""

OnCall: TypeAlias = Callable[[CallEnded], None]
"""Called synchronously, in the task of the call; must neither block nor raise."""


class ObservesCalls:
    """An `observe=` of an engine that is told of the calls of models and of budgets, too.

    It is called in the task of the run or the call.
    """

    @abstractmethod
    def observe(self, pipeline: str) -> Callable[[Event], None]:
        """A function to be called with each event of a run, except the chunks of its output."""

    def __call__(self, pipeline: str) -> Callable[[Event], None]:
        """As `observe`."""
        return self.observe(pipeline)

    @abstractmethod
    def called(self, ended: CallEnded) -> None:
        """Note a model call that has ended."""

    def on_budget(self, told: Reached | Refusal) -> None:
        """Note a threshold of a budget that was reached, or a refusal; by default, ignore it."""


class Teller(msgspec.Struct, frozen=True):
    """How to find who observes a model's calls now, and the model's names in reports."""

    observer: Callable[[], OnCall | None]
    provider: str
    request_model: str
    address: str = ""
    port: int = 0


SETTINGS = (
    *("temperature", "top_p", "top_k", "seed", "output_tokens_max"),
    *("presence_penalty", "frequency_penalty", "dimensions"),
)


def settings_of(request: AnyRequest) -> dict[str, float]:
    """The numeric settings of a request, by field name."""
    return {
        name: value
        for name in SETTINGS
        if (value := getattr(request, name, None)) is not None  # each kind has some of them
    }


def error_of(error: BaseException | None, *, whole: bool) -> str:
    """The `CallEnded.error` of a call; `whole` says whether its answer is complete."""
    if error is None:
        return "" if whole else CANCELLED
    return CANCELLED if isinstance(error, trio.Cancelled) else type(error).__name__
