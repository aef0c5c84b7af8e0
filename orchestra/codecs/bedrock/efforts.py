"""The reasoning effort in Converse's requests: every model family has its own field, or none. Pure.

Sources: for Nova 2 and gpt-oss, Amazon's user guides (for Nova's maxTokens beside `high`, also
inspect_ai's issue 3767); for OpenAI's other models and DeepSeek V3, what langchain-aws and
rust-genai have observed (September 2026), as Amazon documents no field.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from orchestra.codecs.anthropic.request import thinking
from orchestra.codecs.bedrock.extra_fields import extra_field, unknown_field
from orchestra.values import ChatRequest, Json, ReasoningEffort

CLAUDE = "anthropic."
"""Part of the ids of Claude's models."""
_THREE: Mapping[ReasoningEffort, str] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
_ANY: Mapping[ReasoningEffort, str] = {
    "none": "none",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


@attrs.frozen
class _Field:
    """A family's field in `additionalModelRequestFields`; an effort without a value is left out."""

    family: str
    """Part of the ids of its models."""
    path: tuple[str, ...]
    values: Mapping[ReasoningEffort, str]
    beside: Mapping[str, object] = attrs.field(factory=dict)
    """What is sent as well."""
    without_limits: Mapping[str, str] = attrs.field(factory=dict)
    """Values that are refused beside a limit, a temperature, `top_p` or `top_k`, each with its
    substitute.
    """


_FIELDS = (
    _Field(
        "amazon.nova-2",
        ("reasoningConfig", "maxReasoningEffort"),
        _THREE,  # without the field it does not think
        beside={"reasoningConfig": {"type": "enabled"}},
        without_limits={"high": "medium"},
    ),
    _Field("openai.gpt-oss", ("reasoning_effort",), {**_THREE, "none": "low"}),  # it always thinks
    _Field("openai.", ("reasoning", "effort"), _ANY),
    # It thinks or does not: there are no levels.
    _Field("deepseek.v3", ("reasoning_effort",), dict.fromkeys(_THREE, "high")),
)
"""The first field that fits the model's id counts."""


def effort_fields(model: str, request: ChatRequest, *, hidden: bool) -> Json:
    """The fields of a body for the reasoning effort; empty if the request has none.

    `hidden` tells whether the model's id does not show its family. For Claude, thinking is switched
    on as well.

    Raises:
        CapabilityError: no field is known for the model; not if the effort is only a wish.
    """
    effort = request.reasoning_effort
    if effort is None:
        return {}
    if CLAUDE in model:
        return _claude(model, request)
    if hidden:
        return {} if effort == "none" else {"outputConfig": {"effort": _ANY[effort]}}
    field = next((each for each in _FIELDS if each.family in model), None)
    if field is None:
        if effort == "none" or request.effort_if_able:
            return {}
        raise unknown_field(model, f"reasoning_effort={effort!r}")
    value = field.values.get(effort)
    if value is None:
        return {}
    limits = (request.output_tokens_max, request.temperature, request.top_p, request.top_k)
    if any(each is not None for each in limits):
        value = field.without_limits.get(value, value)
    return extra_field(field.path, value, field.beside)


def _claude(model: str, request: ChatRequest) -> Json:
    fields = thinking(model, request)
    if not fields:
        return {}
    body: Json = {"additionalModelRequestFields": {"thinking": fields["thinking"]}}
    if request.reasoning_effort != "none":
        body["inferenceConfig"] = {"maxTokens": fields["max_tokens"]}
    if "output_config" in fields:
        body["outputConfig"] = fields["output_config"]
    return body
