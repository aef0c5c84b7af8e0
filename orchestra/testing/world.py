"""Worlds: the whole environment of a simulated run, as one value that Hypothesis can draw."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypeVar

import attrs
import trio

from orchestra.accounts import Caller
from orchestra.engine.bindings import ScriptedBindings
from orchestra.engine.calls.kept import Opened
from orchestra.errors import BindingError, DefinitionError, TruncatedStreamError
from orchestra.graph.calls.mistakes import explain_wrong_fields
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.rules.policy import Limits
from orchestra.protocols import Embedder, Model, ModelReply, VectorStore
from orchestra.testing import valid
from orchestra.testing.scripts import Script, without_traceback
from orchestra.values import Capabilities, ChatRequest, ModelEvent, Stopped, StopReason, TextDelta

T = TypeVar("T")


@attrs.frozen(repr=False)
class ScriptedModel(Model):
    """A `protocols.Model` that gives these events, each so many seconds after the one before.

    With `error` it fails after them; if no `Stopped` is among them, its answer is cut. `asked`
    keeps every request, in order; each `simulate` begins with none.
    """

    says: tuple[tuple[float, ModelEvent], ...] = attrs.field(validator=valid.timed)
    error: Exception | None = attrs.field(default=None, validator=valid.maybe_error)
    asked: list[ChatRequest] = attrs.field(factory=list, init=False, repr=False, eq=False)

    @says.validator
    def _events(self, _: object, value: tuple[tuple[float, object], ...]) -> None:
        for _, event in value:
            if not isinstance(event, ModelEvent):
                raise TypeError(
                    f"ScriptedModel(...): {event!r:.80} is not an event of a model; "
                    "write TextDelta('text'), or ScriptedModel.saying('text')"
                )

    @classmethod
    def saying(cls, *texts: str, every_s: float = 0.0) -> ScriptedModel:
        """A model that gives these texts and ends normally.

        Raises:
            TypeError: an argument is not a string.
        """
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(
                    f"ScriptedModel.saying({text!r:.80}): it takes strings: saying('a', 'b'); "
                    "for tool calls, write ScriptedTurns.saying(...)"
                )
        timed = tuple((every_s, TextDelta(text)) for text in texts)
        return cls((*timed, (0.0, Stopped(StopReason.END))))

    def __repr__(self) -> str:
        """As source code, as a call of `saying` where that is enough."""
        texts = [event.text for _, event in self.says if isinstance(event, TextDelta)]
        every_s = self.says[0][0] if texts else 0.0
        if self == type(self).saying(*texts, every_s=every_s):
            words = [repr(text) for text in texts] + [f"every_s={every_s!r}"] * (every_s > 0)
            return f"{type(self).__name__}.saying({', '.join(words)})"
        error = "" if self.error is None else f", {self.error!r}"
        return f"{type(self).__name__}({self.says!r}{error})"

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        """Give the events, whatever the request."""
        self.asked.append(request)
        yield self.reply()

    def reply(self) -> ModelReply:
        """The events from the first on, for a model that keeps its requests itself."""
        return _ScriptedReply(self)


class _ScriptedReply:
    def __init__(self, model: ScriptedModel) -> None:
        self._left = list(reversed(model.says))
        self._error = model.error
        self._stopped = False

    async def receive(self) -> tuple[ModelEvent, ...]:
        """Wait for the next event, and return it as a batch of one."""
        if self._left:
            after_s, event = self._left.pop()
            await trio.sleep(after_s)
            self._stopped = self._stopped or isinstance(event, Stopped)
            return (event,)
        await trio.lowlevel.checkpoint()
        if self._error is not None:
            raise without_traceback(self._error)
        if not self._stopped:
            raise TruncatedStreamError("the scripted model was cut")
        return ()


class StatefulModels(Mapping[str, Model]):
    """Models of a world with state that lasts from run to run: those of a deployment."""

    stand_ins: Mapping[str, Model]
    """The scripted models behind them."""

    @abstractmethod
    def update_clocks(self) -> None:
        """Update the clocks of all policies with the time of this `trio.run`.

        Time before their first update in a run, and after their last, does not count for them.
        """


_MODELS = valid.keeping("stream", "ScriptedModel.saying('text')")
_EMBEDDERS = valid.keeping("embed", "an object with `dimensions` and `embed`")
_STORES = valid.keeping("search", "MemoryStore('name')")


@explain_wrong_fields
@attrs.frozen(kw_only=True, repr=False)
class World(ScriptedBindings):
    """The environment of a simulated run: scripts, bindings, limits, a caller, a schedule, ...

    `schedule` seeds the order in which Trio runs tasks that are ready together; draw it
    (`worlds` does), since with one schedule a test sees one interleaving. The repr has only the
    fields that differ from `World()`.
    """

    schedule: int = attrs.field(default=0, validator=valid.whole)
    jitter: float | None = attrs.field(default=None, validator=valid.maybe_share)
    """The random number for every wait before a retry, 0 to 1; None: drawn by `schedule`."""
    cancel_at_s: float | None = attrs.field(default=None, validator=valid.maybe_moment)
    """Cancel the run this long after its start, in virtual seconds."""
    steps: Mapping[str, Script] = attrs.field(factory=dict, validator=valid.by_name)
    """Scripts by step: its path in the plan, or its name."""
    children: Sequence[Pipeline[..., Any]] = attrs.field(default=(), validator=valid.pipelines)
    """The pipelines that steps may run with `context.run`, so that scripts may name their steps."""
    models: Mapping[str, Model | None] = attrs.field(factory=dict, validator=_MODELS)
    """Models by name; None if all steps that name the model are scripted."""
    embedders: Mapping[str, Embedder | None] = attrs.field(factory=dict, validator=_EMBEDDERS)
    stores: Mapping[str, VectorStore | None] = attrs.field(factory=dict, validator=_STORES)
    kept: Mapping[Opened[Any], Opened[Any]] = attrs.field(factory=dict, validator=valid.openers)
    """What `context.kept` opens in place of a client, by the function that would open it."""
    limits: Limits = attrs.field(default=Limits(), validator=valid.limits)
    caller: Caller = attrs.field(default=Caller(), validator=valid.caller)
    """The caller of the run, whose limits and budgets apply in a `deployed` world."""
    hedged: Mapping[str, Sequence[float]] = attrs.field(factory=dict, validator=valid.by_name)
    """Times to commit, in seconds, that hedged races have seen before, by the path of the race.

    Without them a race starts without history, as in a new engine.
    """

    def draw(self) -> Callable[[], float]:
        """The source of jitter for an engine in this world."""
        jitter = self.jitter
        if jitter is not None:
            return lambda: jitter
        return Random(self.schedule).random  # noqa: S311 - it spreads waits; no secret

    def bound(self) -> World:
        """A world with only its models, embedders and stores, which an engine uses."""
        return World(models=self.models, embedders=self.embedders, stores=self.stores)

    def refuse_scripts(self) -> None:
        """Check that this world has only what an engine uses: models, embedders and stores.

        Raises:
            DefinitionError: it has other fields, which only `simulate` uses.
        """
        rest = attrs.evolve(self, models={}, embedders={}, stores={})
        if rest != type(self)():
            raise DefinitionError(
                "open_engine(world): an engine uses only the models, embedders and stores of a "
                f"world, and would ignore the rest of this one, {rest!r:.300}; use "
                "simulate(pipeline, world). If that is intended, write "
                "open_engine(world.bound(), ...), which also takes limits=world.limits and "
                "jitter=world.draw()"
            )

    def names(self, seam: str) -> Sequence[str]:
        """The names of one kind of binding."""
        return tuple({"model": self.models, "embedder": self.embedders, "store": self.stores}[seam])

    def model(self, name: str) -> Model:
        """The model of this name. Raises BindingError."""
        return _find(self.models, "model", name)

    def capabilities(self, name: str) -> Capabilities:
        """What the model of this name can do; unknown if all steps that name it are scripted."""
        model = self.models.get(name)
        return getattr(model, "capabilities", Capabilities())  # a model may have only `stream`

    def embedder(self, name: str) -> Embedder:
        """The embedder of this name. Raises BindingError."""
        return _find(self.embedders, "embedder", name)

    def store(self, name: str) -> VectorStore:
        """The store of this name. Raises BindingError."""
        return _find(self.stores, "store", name)

    def __repr__(self) -> str:
        return _changed(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Like `repr`; otherwise Hypothesis would print every field of every failing example."""
        del cycle
        printer.text(repr(self))


def _changed(value: World | Limits) -> str:
    """A value as source code, without default values."""
    fields, default = [], type(value)()
    for field in attrs.fields(type(value)):
        found = getattr(value, field.name)
        if found != getattr(default, field.name):
            shown = _changed(found) if isinstance(found, Limits) else repr(found)
            fields.append(f"{field.name}={shown}")
    return f"{type(value).__name__}({', '.join(fields)})"


def _find(bound: Mapping[str, T | None], seam: str, name: str) -> T:
    found = bound.get(name)
    if found is None:
        raise BindingError(
            f"this world has no {seam} {name!r}; add one: World({seam}s={{{name!r}: ...}})"
        )
    return found
