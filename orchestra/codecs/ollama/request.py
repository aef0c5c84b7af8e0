"""The bodies of Ollama's `/api/chat` and `/api/embed`, from our requests.

Ollama cannot be forced to call a tool, and fetches no images. Requests for either are errors here,
since Ollama would ignore them silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestra.codecs.dialect import refuse
from orchestra.codecs.files import without_files
from orchestra.codecs.raw_json import merged, without_nulls
from orchestra.codecs.tool_calls import arguments_object, function_tool
from orchestra.errors import CapabilityError
from orchestra.values import (
    ChatRequest,
    EmbedRequest,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    Message,
    Part,
    ReasoningEffort,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)

_THINK: Mapping[ReasoningEffort, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
"""Models without levels treat every level as true."""


def chat_body(model: str, request: ChatRequest, *, stream: bool) -> Json:
    """The body of a chat call.

    Raises:
        CapabilityError: Ollama's API cannot express something in the request.
    """
    refuse(request, "Ollama", "logprobs", "parallel_tool_calls")
    effort = request.reasoning_effort
    # A model that cannot think refuses this field; one that can thinks without it.
    wished = request.effort_if_able and effort != "none"
    body: Json = {
        "model": model,
        "messages": [each for message in request.messages for each in _messages(message)],
        "stream": stream,
        "options": _options(request) or None,
        "tools": _tools(request) or None,
        "think": None if effort is None or wished else _THINK[effort],
        "format": request.output and (request.output.schema or "json"),
    }
    return merged(without_nulls(body), request.extras.get("ollama", {}))


def embed_body(model: str, request: EmbedRequest) -> Json:
    """The body of an embedding call; Ollama has no purposes."""
    body = {"model": model, "input": request.texts, "dimensions": request.dimensions}
    return merged(without_nulls(body), request.extras.get("ollama", {}))


def _options(request: ChatRequest) -> Json:
    options: Json = {
        "temperature": request.temperature,
        "num_predict": request.output_tokens_max,
        "stop": list(request.stop) or None,
        "seed": request.seed,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
    }
    return without_nulls(options)


def _tools(request: ChatRequest) -> list[Json]:
    choice = request.tool_choice
    if choice == "required" or isinstance(choice, ForcedTool):
        raise CapabilityError(
            f"tool_choice={choice!r} cannot be sent to Ollama, which cannot be forced to call a "
            "tool; leave the choice to the model, with `auto`"
        )
    if choice == "none":
        return []
    return [function_tool(tool) for tool in request.tools]


def _messages(message: Message) -> Iterator[Json]:
    """The messages for one of our turns: first a message for each tool result, then the rest."""
    rest: list[Part] = []
    for part in without_files(message.parts, "Ollama"):
        if isinstance(part, ToolResult):
            yield _result(part)
        else:
            rest.append(part)
    if rest or message.role == "assistant":
        yield _turn("user" if message.role == "tool" else message.role, rest)


def _turn(role: str, parts: list[Part]) -> Json:
    turn: Json = {"role": role, "content": _joined(parts, TextPart)}
    if thoughts := _joined(parts, ReasoningPart):
        turn["thinking"] = thoughts
    if images := [_image(part) for part in parts if isinstance(part, ImagePart | ImageUrlPart)]:
        turn["images"] = images
    if calls := [_call(part) for part in parts if isinstance(part, ToolCall)]:
        turn["tool_calls"] = calls
    return turn


def _joined(parts: list[Part], kind: type[TextPart | ReasoningPart]) -> str:
    return "".join(part.text for part in parts if isinstance(part, kind))


def _image(part: ImagePart | ImageUrlPart) -> str:
    if isinstance(part, ImagePart):
        return part.base64
    head, _, data = part.url.partition(";base64,")
    if not (head.startswith("data:") and data):
        raise CapabilityError(
            f"Ollama does not fetch images, such as {part.url[:100]!r}; send the image itself, not "
            "its address"
        )
    return data


def _call(call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": arguments_object(call.arguments)}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def _result(result: ToolResult) -> Json:
    """The message for a tool result; Ollama has no field for an error, so the text says it."""
    content = f"error: {result.content}" if result.is_error else result.content
    turn = {"role": "tool", "content": content, "tool_name": result.name}
    return turn | {"tool_call_id": result.call_id} if result.call_id else turn
