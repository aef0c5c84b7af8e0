"""What Bedrock's Converse is asked: our requests as its bodies.

Converse has no word for a tool choice of "none": the tools are left out then. It wants them
back, though, once the conversation holds calls or results; that cannot be said at all. What
only some model families know, it takes in `additionalModelRequestFields`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from itertools import groupby

import msgspec

from orchestra.codecs.anthropic_request import REDACTED, anthropic_body, goes_on_thinking
from orchestra.codecs.arguments import arguments_object, merged
from orchestra.codecs.enforced_schema import enforced
from orchestra.codecs.prompt_cache import has_mark
from orchestra.errors import CapabilityError
from orchestra.values import (
    ChatRequest,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    JsonOutput,
    Part,
    ReasoningEffort,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)

EXTRAS = "bedrock"
"""The name under which a request's extras are Bedrock's."""
_IMAGE_FORMATS = frozenset(("png", "jpeg", "gif", "webp"))
_CLAUDE = "anthropic."
_TOP_K: tuple[tuple[str, tuple[str, ...]], ...] = (
    (_CLAUDE, ("top_k",)),
    ("amazon.nova", ("inferenceConfig", "topK")),
    ("cohere.", ("k",)),
    ("mistral.", ("top_k",)),
)
"""Where a family's `top_k` stands in `additionalModelRequestFields`."""
_EFFORTS: Mapping[ReasoningEffort, str] = {"minimal": "low"}
_KEEPING = (_CLAUDE, "amazon.nova", ":application-inference-profile/")
"""Families that keep what they have read; others refuse to be told. A profile hides its own."""
_CACHE_POINT: Json = {"cachePoint": {"type": "default"}}


def converse_body(model: str, request: ChatRequest) -> Json:
    """The body of a Converse call; the extras of `bedrock` are merged into it.

    Reasoning goes back only with its signature. Empty text is left out, as Converse refuses it.

    Raises:
        CapabilityError: the request asks for what Converse has no words for.
    """
    refuse(request, "Converse", "seed", "presence_penalty", "frequency_penalty", "logprobs")
    body = chat_body(request, model)
    for part in (_top_k(model, request), _effort(model, request), _output(request.output)):
        body = merged(body, part)
    return merged(body, request.extras.get(EXTRAS, {}))


def chat_body(request: ChatRequest, model: str) -> Json:
    """What Converse's bodies and those of Nova's models have in common.

    Raises:
        CapabilityError: the request asks for what neither has words for.
    """
    keeps = any(family in model for family in _KEEPING)
    body: Json = {
        "messages": list(_turns(request, keeps=keeps)),
        "system": list(_system(request, keeps=keeps)),
        "inferenceConfig": _inference_config(request),
        "toolConfig": _tool_config(request),
    }
    return {name: value for name, value in body.items() if value or name == "messages"}


def refuse(request: ChatRequest, whom: str, *names: str) -> None:
    """Refuse a request that sets any of the named fields.

    Raises:
        CapabilityError: it does.
    """
    for name in names:
        value = getattr(request, name)
        if value is not None and value not in ((), "none"):
            raise CapabilityError(
                f"{whom} has no word for {name}={value!r}: leave it out, or say it in the model's "
                f"own words in extras={{{EXTRAS!r}: ...}}"
            )


def system_texts(request: ChatRequest) -> list[str]:
    """The texts of the system's messages, wherever they stand, without empty ones."""
    texts = (each.text for each in request.messages if each.role == "system")
    return [text for text in texts if text.strip()]


def _inference_config(request: ChatRequest) -> Json:
    config = {
        "maxTokens": request.output_tokens_max,
        "temperature": request.temperature,
        "topP": request.top_p,
        "stopSequences": list(request.stop) or None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _system(request: ChatRequest, *, keeps: bool) -> Iterator[Json]:
    for message in request.messages:
        if message.role == "system" and message.text.strip():
            yield {"text": message.text}
            if keeps and any(map(has_mark, message.parts)):
                yield _CACHE_POINT


def _turns(request: ChatRequest, *, keeps: bool) -> Iterator[Json]:
    """The conversation, its roles in turn; results stand in the user's, and first."""
    told = [
        ("assistant" if each.role == "assistant" else "user", block)
        for each in request.messages
        for part in each.parts
        for block in _kept(part, keeps=keeps)
        if each.role != "system"
    ]
    for role, turn in groupby(told, lambda each: each[0]):
        content = sorted((block for _, block in turn), key=lambda block: "toolResult" not in block)
        yield {"role": role, "content": content}


def _kept(part: Part, *, keeps: bool) -> Iterator[Json]:
    """The blocks of a part, and behind it the mark up to where what was read is kept."""
    blocks = list(_blocks(part))
    yield from blocks
    if keeps and blocks and has_mark(part):
        yield _CACHE_POINT


def _blocks(part: Part) -> Iterator[Json]:
    match part:
        case TextPart(text=text):
            if text.strip():
                yield {"text": text}
        case ImagePart() | ImageUrlPart():
            yield {"image": _image(part)}
        case ReasoningPart(text=text, signature=signature):
            if signature.startswith(REDACTED):
                withheld = signature.removeprefix(REDACTED)
                yield {"reasoningContent": {"redactedContent": withheld}}
            elif signature:
                sealed = {"text": text, "signature": signature}
                yield {"reasoningContent": {"reasoningText": sealed}}
        case ToolCall(id=id_, name=name, arguments=arguments):
            used = {"toolUseId": id_, "name": name, "input": arguments_object(arguments)}
            yield {"toolUse": used}
        case ToolResult(call_id=id_, content=content, is_error=is_error):
            said = [{"text": content}] if content.strip() else []
            # Only some families know the status, so the usual one is not told.
            status = {"status": "error"} if is_error else {}
            yield {"toolResult": {"toolUseId": id_, "content": said, **status}}


def _image(part: ImagePart | ImageUrlPart) -> Json:
    if isinstance(part, ImagePart):
        kind = part.media_type.removeprefix("image/").replace("jpg", "jpeg")
        source: Json = {"bytes": b64encode(part.data).decode()}
    else:
        kind = part.url.rpartition(".")[2].lower().replace("jpg", "jpeg")
        source = {"s3Location": {"uri": part.url}}
        if not part.url.startswith("s3://"):
            raise CapabilityError(
                f"Bedrock does not fetch {part.url[:200]!r}: give the image's bytes as an "
                "ImagePart, or an s3:// address"
            )
    if kind not in _IMAGE_FORMATS:
        raise CapabilityError(
            f"Bedrock knows no images of the format {kind!r}, only {sorted(_IMAGE_FORMATS)}"
        )
    return {"format": kind, "source": source}


def _tool_config(request: ChatRequest) -> Json | None:
    if not request.tools or request.tool_choice == "none":
        _refuse_lost_tools(request)
        return None
    if request.parallel_tool_calls is False:
        refuse(request, "Converse", "parallel_tool_calls")
    tools = [
        {
            "toolSpec": {
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                "inputSchema": {
                    "json": enforced(tool.parameters) if tool.strict else tool.parameters
                },
                **({"strict": True} if tool.strict else {}),
            }
        }
        for tool in request.tools
    ]
    choice: Json | None = None
    match request.tool_choice:
        case "auto":
            choice = {"auto": {}}
        case "required":
            choice = {"any": {}}
        case ForcedTool(name=name):
            choice = {"tool": {"name": name}}
    return {"tools": tools, **({"toolChoice": choice} if choice else {})}


def _refuse_lost_tools(request: ChatRequest) -> None:
    used = any(
        isinstance(part, ToolCall | ToolResult)
        for message in request.messages
        for part in message.parts
    )
    if used and request.tool_choice == "none":
        raise CapabilityError(
            "Converse has no tool choice 'none', and wants the tools of a conversation that has "
            "used them: leave tool_choice out, or send the conversation without its tool calls"
        )


def _output(output: JsonOutput | None) -> Json:
    if output is None:
        return {}
    if output.schema is None:
        raise CapabilityError(
            "JsonOutput(schema=None) cannot be asked of Bedrock, which gives JSON only by a "
            "schema; add one, or ask for JSON in the prompt"
        )
    text = msgspec.json.encode(enforced(output.schema)).decode()
    schema = {"name": output.name, "schema": text}
    text_format = {"type": "json_schema", "structure": {"jsonSchema": schema}}
    return {"outputConfig": {"textFormat": text_format}}


def _effort(model: str, request: ChatRequest) -> Json:
    """Converse has a word for the effort, but Claude has to be told to think as well."""
    effort = request.reasoning_effort
    if effort is None:
        return {}
    if _CLAUDE not in model:
        none = effort == "none"  # they think only when they are asked to
        return {} if none else {"outputConfig": {"effort": _EFFORTS.get(effort, effort)}}
    alone = ChatRequest((), reasoning_effort=effort, output_tokens_max=request.output_tokens_max)
    asked = anthropic_body(None, alone, False, known_as=model)
    thinking = asked.get("thinking", {})
    if not thinking or ("budget_tokens" in thinking and not goes_on_thinking(request)):
        return {}
    body: Json = {"additionalModelRequestFields": {"thinking": thinking}}
    if effort != "none":
        body["inferenceConfig"] = {"maxTokens": asked["max_tokens"]}
    if "output_config" in asked:
        body["outputConfig"] = asked["output_config"]
    return body


def _top_k(model: str, request: ChatRequest) -> Json:
    if request.top_k is None:
        return {}
    for family, path in _TOP_K:
        if family in model:
            found: Json = {path[-1]: request.top_k}
            for name in reversed(path[:-1]):
                found = {name: found}
            return {"additionalModelRequestFields": found}
    raise CapabilityError(
        f"where {model} takes top_k={request.top_k} is not known: leave it out, or say it in "
        f"extras={{{EXTRAS!r}: {{'additionalModelRequestFields': ...}}}}"
    )
