"""The options of a model call: the keywords of `generate`, in one place.

`Options` is for type checkers; `GenerateSettings` has the same names, with their defaults.
`spelled_out` writes them into a step's signature, from which the compiler reads them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict, TypeVar, get_type_hints

import attrs

from orchestra.annotations.deferred import annotate
from orchestra.errors import DefinitionError
from orchestra.graph.rules.policy import Policy
from orchestra.graph.source.frames import called_at
from orchestra.graph.wires import Wire
from orchestra.policies.requests.extras import misspelt
from orchestra.protocols import ModelName
from orchestra.steps.conversation.approvals import NO_DECISIONS, Decisions
from orchestra.steps.conversation.tools import FunctionTool
from orchestra.values import (
    NO_EXTRAS,
    ChatRequest,
    Extras,
    Message,
    ReasoningEffort,
    ToolChoice,
)

Asked: TypeAlias = str | Message | list[Message] | ChatRequest
F = TypeVar("F", bound=Callable[..., Any])


class Options(TypedDict, total=False):
    """The keywords of `generate`. For a setting that is left out, the provider's default holds."""

    model: ModelName
    """The name of a model of the deployment; `default` if left out."""
    policy: Policy | None
    """The policy of this call."""
    system: str | None
    """The system prompt."""
    temperature: float | None
    top_p: float | None
    output_tokens_max: int | None
    """After this many tokens, the answer may be cut, and then counts as complete."""
    stop: str | Sequence[str]
    """The answer ends before the first of these texts."""
    seed: int | None
    reasoning_effort: ReasoningEffort | None
    extras: Extras
    """Extra fields of the provider's request: `{"openai": {"service_tier": "flex"}}`."""
    tools: Sequence[Callable[..., object]]
    """Typed functions that the model may call; see `orchestra.steps.conversation.tools`."""
    tool_choice: ToolChoice | None
    """Whether the model has to call a tool, or which one; this holds only for its first calls."""
    parallel_tool_calls: bool | None
    """With False, the model makes one call per round."""
    tool_rounds_max: int
    """How many rounds may call tools, or pause; 8 if left out."""
    tools_at_once: int
    """How many tool calls may run at the same time; 4 if left out."""
    tool_timeout_s: float | None
    """Seconds for each tool call, after which the model reads an error; no limit if left out."""
    approved: Decisions
    """Decisions about tool calls that needed approval, by the id of the call: True, False, or a
    `Refused` of `orchestra.transcripts` with a reason."""
    citations: bool
    """With True, the run has an event `step.told` for each citation of the answer."""
    reasoning: bool
    """With True, the run has events `step.told` with the reasoning that the provider sends."""


@attrs.frozen(kw_only=True)
class GenerateSettings:
    """`Options` with their defaults."""

    model: str = "default"
    policy: Policy | None = None
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    output_tokens_max: int | None = None
    stop: str | Sequence[str] = ()
    seed: int | None = None
    reasoning_effort: ReasoningEffort | None = None
    extras: Extras = NO_EXTRAS
    tools: tuple[FunctionTool[..., object], ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    tool_rounds_max: int = 8
    tools_at_once: int = 4
    tool_timeout_s: float | None = None
    approved: Decisions = NO_DECISIONS
    citations: bool = False
    reasoning: bool = False

    def request(self, asked: Asked) -> ChatRequest:
        """The request to send; if `asked` is a request already, these settings override its own."""
        request = asked if isinstance(asked, ChatRequest) else ChatRequest(_messages(asked))
        settings = {name: getattr(self, name) for name in _SHARED}
        changes = {name: value for name, value in settings.items() if value not in (None, ())}
        if self.reasoning_effort is not None:
            changes["reasoning_tokens_max"] = None
        if self.stop:
            changes["stop"] = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        if self.system is not None:
            changes["messages"] = (Message("system", self.system), *request.messages)
        if self.tools:
            changes["tools"] = tuple(each.declaration for each in self.tools)
        if self.extras:
            changes["extras"] = {**request.extras, **self.extras}
        return attrs.evolve(request, **changes) if changes else request  # takes 10 us


_SHARED = (
    *("temperature", "top_p", "output_tokens_max", "seed", "reasoning_effort"),
    *("tool_choice", "parallel_tool_calls"),
)
"""Settings that have the same name in a request."""


def _messages(asked: str | Message | list[Message]) -> tuple[Message, ...]:
    if isinstance(asked, str):
        asked = Message("user", asked)
    return (asked,) if isinstance(asked, Message) else tuple(asked)


def check_bounds(options: Options) -> None:
    """Check that the bounds are valid numbers.

    Raises:
        DefinitionError: a bound is not a number, is too small, or is a wire.
    """
    for name, (kinds, what) in _BOUNDS.items():
        given: object = options.get(name, 1)
        if given is None and name == "tool_timeout_s":
            continue
        if isinstance(given, Wire) or not isinstance(given, kinds) or not given > 0:
            raise DefinitionError(
                f"{called_at()}: generate({name}={given!r}): it must be a number of {what}, "
                "known when the pipeline is defined: write it as a number"
            )


def check_extras(options: Options) -> None:
    """Check that the extras name no provider in a wrong way; a wire is checked in the run.

    Raises:
        DefinitionError: a provider is misspelt.
    """
    extras: object = options.get("extras")
    if isinstance(extras, Mapping) and (wrong := misspelt(extras)):
        raise DefinitionError(f"{called_at()}: generate(extras=...): {wrong}")


_TIMES = (int,), "times, 1 or more"
_BOUNDS = {
    "tool_rounds_max": _TIMES,
    "tools_at_once": _TIMES,
    "tool_timeout_s": ((int, float), "seconds, more than 0"),
}


def spelled_out(function: F, returns: object) -> F:
    """The function, with all `Options` in its signature, and with this return annotation."""
    hints = get_type_hints(Options, include_extras=True)
    given = inspect.signature(function).parameters.values()
    words = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=each.default,
            annotation=hints[each.name],
        )
        for each in attrs.fields(GenerateSettings)
    ]
    parameters = [each for each in given if each.kind is not each.VAR_KEYWORD]
    annotations = {each.name: each.annotation for each in [*parameters, *words]}
    signature = inspect.Signature([*parameters, *words])
    function.__signature__ = signature  # type: ignore[attr-defined]
    annotate(function, annotations | {"return": returns})
    return function
