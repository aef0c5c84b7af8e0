"""The bodies of Anthropic's `/messages`, from our requests; also used for Claude on Bedrock.

Turns must alternate between user and assistant, so consecutive turns of one role are joined. Tool
results come first in the user's turn. Empty text is left out, as Anthropic refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from orchestra.codecs.data_urls import with_bytes
from orchestra.codecs.dialect import refuse, refuse_system_files
from orchestra.codecs.enforced_schema import enforced, enforced_output
from orchestra.codecs.files import PDF, text_of, title_of, unread
from orchestra.codecs.prompt_cache import has_mark
from orchestra.codecs.raw_json import merged, without_nulls
from orchestra.codecs.seals import ANTHROPIC, REDACTED, opened, own
from orchestra.codecs.tool_calls import arguments_object, call_id, told_apart
from orchestra.codecs.turns import alternating
from orchestra.errors import CapabilityError
from orchestra.values import (
    ChatRequest,
    FilePart,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Message,
    Part,
    ReasoningEffort,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
)

OUTPUT_TOKENS = 4_096
"""The limit for requests without one: Anthropic requires one, and every Claude allows this."""
_CALL_IDS = r"[a-zA-Z0-9_-]+"
"""Tool call ids that Anthropic accepts; others are replaced."""
BUDGETS: Mapping[ReasoningEffort, int] = {
    "minimal": 1_024,  # the least that Anthropic allows
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 20_480,
    "max": 24_576,  # Claude Opus 4 has 32,000 tokens for thoughts and answer
}
_EFFORTS: Mapping[ReasoningEffort, str] = {"none": "low", "minimal": "low"}
_ALWAYS_THINK = re.compile(r"claude-(fable|mythos)-")
"""Models whose thinking cannot be switched off; source: Anthropic's migration guide to Fable 5."""
_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d)(?!\d))?")
_ADAPTIVE_SINCE = (4, 6)
_BUDGETS_UNTIL = (4, 6)
"""The last version that also accepts a number of tokens, if a request has one.

Later versions have the effort `xhigh`, and show thoughts only on request.
"""


def anthropic_body(
    model: str | None,
    request: ChatRequest,
    stream: bool,
    *,
    output_tokens: int = OUTPUT_TOKENS,
    output_tokens_max: int | None = None,
    known_as: str = "",
) -> Json:
    """The body of a `/messages` call; without a model, it has neither `model` nor `stream`.

    `output_tokens` is the limit of the answer if the request has none; thinking raises it, up to
    `output_tokens_max`, the model's own limit. `known_as` is the model's name if the body must not
    contain it: the fields for thinking depend on the model's version.

    Raises:
        CapabilityError: Anthropic's API cannot express something in the request.
    """
    refuse(request, "Anthropic", "seed", "presence_penalty", "frequency_penalty", "logprobs")
    refuse_system_files(request, "Anthropic")
    system, turns = _conversation(told_apart(request.messages))
    body: Json = {
        "model": model,
        "stream": stream if model else None,
        "max_tokens": request.output_tokens_max or output_tokens,
        "system": system or None,
        "messages": turns,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop_sequences": list(request.stop) or None,
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request) if request.tools else None,
        "output_config": _format(request.output) if request.output else None,
    }
    effort_fields = thinking(
        known_as or model or "",
        request,
        output_tokens=output_tokens,
        output_tokens_max=output_tokens_max,
    )
    whole = merged(merged(without_nulls(body), effort_fields), request.extras.get("anthropic", {}))
    return _without_vain_display(whole)


def _without_vain_display(body: Json) -> Json:
    """The body, without the display option if thinking is off: Anthropic would refuse it."""
    thought = body.get("thinking")
    if not isinstance(thought, dict) or thought.get("type", "disabled") != "disabled":
        return body
    rest = {name: value for name, value in thought.items() if name != "display"}
    return without_nulls(body | {"thinking": rest or None})


def thinking(
    model: str,
    request: ChatRequest,
    *,
    output_tokens: int = OUTPUT_TOKENS,
    output_tokens_max: int | None = None,
) -> Json:
    """The fields for the reasoning effort of a request; empty if the model cannot apply it here.

    The other arguments are those of `anthropic_body`.

    Raises:
        CapabilityError: the request's limit of output tokens leaves no room for thoughts.
    """
    effort, exact = request.reasoning_effort, request.reasoning_tokens_max
    if effort is None:
        return {}
    budget = exact or BUDGETS.get(effort, 0)
    most = output_tokens + budget
    limit = request.output_tokens_max or min(most, output_tokens_max or most)
    if not _by_budget(model, exact=exact is not None):
        return _adaptive(model, effort, limit)
    if effort == "none":
        return {}  # these models think only on request
    if request.effort_if_able and limit < 2 * BUDGETS["minimal"]:
        return {}
    answer = 1 if exact else min(output_tokens, OUTPUT_TOKENS, limit // 2)
    fields = _budgeted(model, effort, budget, limit, answer)
    return fields if _goes_on_thinking(request) else {}


def _goes_on_thinking(request: ChatRequest) -> bool:
    """Whether Anthropic accepts a thinking budget for this conversation.

    If the assistant's last turn called tools, it has to begin with a thought of Claude; without
    one, as after a turn of another model, a request with a budget is refused.
    """
    answers = (each for each in reversed(request.messages) if each.role == "assistant")
    last = [block for each in islice(answers, 1) for block in _blocks(each.parts)]
    called = any(block["type"] == "tool_use" for block in last)
    return not called or last[0]["type"] in {"thinking", "redacted_thinking"}


def _conversation(messages: Sequence[Message]) -> tuple[str | list[Json], list[Json]]:
    """The system messages, from anywhere in the conversation, and the alternating turns."""
    systems = [message for message in messages if message.role == "system" and message.text]
    turns = alternating(
        (each.role, _blocks(each.parts)) for each in messages if each.role != "system"
    )
    for _, blocks in turns:
        blocks.sort(key=lambda block: block["type"] != "tool_result")
    return _system(systems), [{"role": role, "content": blocks} for role, blocks in turns]


def _system(messages: list[Message]) -> str | list[Json]:
    """The system messages as one text, or as blocks if one has a mark for the prompt cache."""
    if not any(has_mark(part) for message in messages for part in message.parts):
        return "\n\n".join(message.text for message in messages)
    texts = [part for each in messages for part in each.parts if isinstance(part, TextPart)]
    return list(_blocks(tuple(texts)))


def _blocks(parts: tuple[Part, ...]) -> Iterator[Json]:
    for part in parts:
        match part:
            case TextPart(text=text):
                if text.strip():
                    yield {"type": "text", "text": text, **_mark(part)}
            case ImagePart() | ImageUrlPart():
                yield {"type": "image", "source": _source(with_bytes(part)), **_mark(part)}
            case FilePart():
                yield {**_file(part), **_mark(part)}
            case ReasoningPart(text=text, signature=signature):
                yield from _thought(text, signature)
            case ToolCall():
                call = {"id": call_id(part.id, _CALL_IDS), "name": part.name}
                yield {"type": "tool_use", **call, "input": arguments_object(part.arguments)}
            case _:
                yield _result(part)


def _source(image: ImagePart | ImageUrlPart) -> Json:
    if isinstance(image, ImageUrlPart):
        return {"type": "url", "url": image.url}
    return {"type": "base64", "media_type": image.media_type, "data": image.base64}


def _file(file: FilePart) -> Json:
    cited = {"citations": {"enabled": True}} if file.citations else {}
    if file.source and cited:
        found = {"source": file.source, "title": title_of(file), "content": _pieces(file)}
        return {"type": "search_result", **found, **cited}
    named = {"title": file.name} if file.name else {}
    return {"type": "document", "source": _document(file), **named, **cited}


def _pieces(file: FilePart) -> list[Json]:
    """The text of a file in blocks, with empty ones, since citations count the blocks."""
    return [{"type": "text", "text": text} for text in file.passages or (text_of(file),)]


def _document(file: FilePart) -> Json:
    if file.citations and file.passages:
        return {"type": "content", "content": _pieces(file)}
    if file.is_text:  # the only text type that Anthropic accepts
        return {"type": "text", "media_type": "text/plain", "data": text_of(file)}
    if file.media_type != PDF:
        raise unread(file, "Anthropic")
    return {"type": "base64", "media_type": PDF, "data": file.base64}


def _thought(text: str, signature: str) -> Iterator[Json]:
    """The block of a thought; none without a seal of Anthropic, which would be refused."""
    origin, seal = opened(signature)
    if origin == REDACTED:
        yield {"type": "redacted_thinking", "data": seal}
    elif seal := own(signature, ANTHROPIC):
        yield {"type": "thinking", "thinking": text, "signature": seal}


def _result(result: ToolResult) -> Json:
    block: Json = {"type": "tool_result", "tool_use_id": call_id(result.call_id, _CALL_IDS)}
    if result.content.strip():
        block["content"] = result.content
    return block | ({"is_error": True} if result.is_error else {}) | _mark(result)


def _mark(part: Part | Tool) -> Json:
    return {"cache_control": {"type": "ephemeral"}} if has_mark(part) else {}


def _tool(tool: Tool) -> Json:
    schema = enforced(tool.parameters) if tool.strict else tool.parameters
    record: Json = {"name": tool.name, "description": tool.description, "input_schema": schema}
    return record | ({"strict": True} if tool.strict else {}) | _mark(tool)


def _tool_choice(request: ChatRequest) -> Json | None:
    match request.tool_choice:
        case "none":
            return {"type": "none"}  # has no option for parallel calls
        case ForcedTool(name=name):
            choice: Json = {"type": "tool", "name": name}
        case "required":
            choice = {"type": "any"}
        case "auto":
            choice = {"type": "auto"}
        case _:
            choice = {}
    if request.parallel_tool_calls is not None:
        parallel = {"disable_parallel_tool_use": not request.parallel_tool_calls}
        choice = {"type": "auto"} | choice | parallel
    return choice or None


def _format(output: JsonOutput) -> Json:
    schema = enforced_output(output, "Anthropic")
    return {"format": {"type": "json_schema", "schema": schema}}


def _adaptive(model: str, effort: ReasoningEffort, limit: int) -> Json:
    if effort == "none" and not _ALWAYS_THINK.search(model):
        return {"thinking": {"type": "disabled"}}
    version = _version(model)
    older = version is not None and version <= _BUDGETS_UNTIL
    word = "max" if older and effort == "xhigh" else _EFFORTS.get(effort, effort)
    shown = {} if older else {"display": "summarized"}  # the default is no text
    adaptive = {"type": "adaptive", **shown}
    return {"thinking": adaptive, "output_config": {"effort": word}, "max_tokens": limit}


def _budgeted(model: str, effort: ReasoningEffort, budget: int, limit: int, answer: int) -> Json:
    """The options for a thinking budget, which leaves `answer` of `limit` tokens if it can."""
    if limit <= BUDGETS["minimal"]:
        raise CapabilityError(
            f"output_tokens_max={limit} leaves no room for reasoning_effort={effort!r}: {model} "
            f"thinks for at least {BUDGETS['minimal']} tokens, which count towards this limit; "
            "allow more, or leave out the effort"
        )
    budget = max(min(budget, limit - answer), BUDGETS["minimal"])
    return {"thinking": {"type": "enabled", "budget_tokens": budget}, "max_tokens": limit}


def _by_budget(model: str, *, exact: bool) -> bool:
    """Whether a model is sent a number of tokens; `exact` tells whether the request has one."""
    version = _version(model)
    if version is None:
        return False
    return version < _ADAPTIVE_SINCE or (exact and version <= _BUDGETS_UNTIL)


def _version(model: str) -> tuple[int, int] | None:
    found = _VERSION.search(model)
    return None if found is None else (int(found[1]), int(found[2] or 0))
