"""The bodies of Gemini's `generateContent` and embeddings, from our requests.

Turns alternate between user and model, so consecutive turns of one role are joined. Thoughts are
sent back only for their seals: their text is a summary, which is useless to the model.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping

from orchestra.codecs.data_urls import with_bytes
from orchestra.codecs.dialect import refuse, refuse_system_files
from orchestra.codecs.files import as_text_part, refuse_citations
from orchestra.codecs.raw_json import merged, without_nulls
from orchestra.codecs.seals import GEMINI, ON_TEXT, UNSEALED, opened, own
from orchestra.codecs.tool_calls import arguments_object
from orchestra.codecs.turns import alternating
from orchestra.values import (
    ChatRequest,
    EmbedRequest,
    FilePart,
    ForcedTool,
    ImagePart,
    ImageUrlPart,
    Json,
    Message,
    Part,
    Purpose,
    ReasoningEffort,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)

_UNSEALED = b64encode(UNSEALED.encode()).decode()
_BY_BUDGET = re.compile(r"gemini-(1|2)\b|gemini-robotics-er-1\b")
_BUDGETS: Mapping[ReasoningEffort, int] = {
    "none": 0,
    "minimal": 1_024,  # as in Google's OpenAI-compatible API
    "low": 1_024,
    "medium": 8_192,
    "high": 24_576,
    "xhigh": 24_576,
    "max": 24_576,
}
_BUDGET_MIN_OF_PRO = 128
_MINIMAL = re.compile(r"gemini-3(\.[0-6])?-flash|flash-lite")
"""Models with the lowest level; Gemini 3's Pro, and its Flash since 3.7, do not have it."""
_LEVELS: Mapping[ReasoningEffort, str] = {
    "none": "MINIMAL",  # since Gemini 3, thinking cannot be switched off
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
_MODES: Mapping[ToolChoice, str] = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_TASKS: Mapping[Purpose, str] = {
    "query": "RETRIEVAL_QUERY",
    "document": "RETRIEVAL_DOCUMENT",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
}
_MEDIA_TYPES: Mapping[str, str] = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
}
_ENDING = re.compile(r"\.(\w+)(?:[?#]|$)")


_NO_ARGUMENTS = ("type", "title", "description", "required", "$schema")
"""A schema with only these fields is that of a tool without arguments; Gemini wants none then."""


def gemini_body(model: str, request: ChatRequest, origin: str = GEMINI) -> Json:
    """The body of a `generateContent` or `streamGenerateContent` call.

    `origin` is the origin of the seals that are sent back.

    Raises:
        CapabilityError: Gemini's API cannot express something in the request.
    """
    refuse(request, "Gemini", "logprobs", "parallel_tool_calls")
    refuse_system_files(request, "Gemini")
    system = [{"text": each.text} for each in request.messages if each.role == "system"]
    body: Json = {
        "contents": _contents(request.messages, origin, wants_seals=wants_seals(model)),
        "systemInstruction": {"parts": system} if system else None,
        "generationConfig": _config(model, request) or None,
        "tools": [{"functionDeclarations": [_tool(tool) for tool in request.tools]}]
        if request.tools
        else None,
        "toolConfig": _tool_config(request),
    }
    return merged(without_nulls(body), request.extras.get("gemini", {}))


def wants_seals(model: str) -> bool:
    """Whether a model refuses a turn whose first tool call has no seal: Gemini since version 3."""
    return "gemini" in model and not _BY_BUDGET.search(model)


def studio_embed_body(path: str, request: EmbedRequest) -> Json:
    """The body of a `batchEmbedContents` call; `path` is the model's, as in `models/name`."""
    asked = without_nulls(
        {
            "model": path,
            "taskType": _TASKS[request.purpose] if request.purpose else None,
            "outputDimensionality": request.dimensions,
        }
    )
    extra = request.extras.get("gemini", {})
    return {
        "requests": [
            merged(asked | {"content": {"parts": [{"text": text}]}}, extra)
            for text in request.texts
        ]
    }


def vertex_embed_body(request: EmbedRequest) -> Json:
    """The body of a `predict` call to one of Vertex's embedding models."""
    task: Json = {"task_type": _TASKS[request.purpose]} if request.purpose else {}
    size: Json = {"outputDimensionality": request.dimensions} if request.dimensions else {}
    body: Json = {"instances": [{"content": text, **task} for text in request.texts]}
    return merged(body | ({"parameters": size} if size else {}), request.extras.get("gemini", {}))


def _config(model: str, request: ChatRequest) -> Json:
    effort, output = request.reasoning_effort, request.output
    config: Json = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "maxOutputTokens": request.output_tokens_max,
        "stopSequences": list(request.stop) or None,
        "seed": request.seed,
        "presencePenalty": request.presence_penalty,
        "frequencyPenalty": request.frequency_penalty,
        "responseMimeType": "application/json" if output else None,
        "responseJsonSchema": output.schema if output else None,
        "thinkingConfig": _thinking(model, effort, request.reasoning_tokens_max)
        if effort
        else None,
    }
    return without_nulls(config)


def _thinking(model: str, effort: ReasoningEffort, budget: int | None) -> Json:
    """The thinking options: a level since Gemini 3, a number of tokens before."""
    thoughts = {} if effort == "none" else {"includeThoughts": True}
    if _BY_BUDGET.search(model):
        least = _BUDGET_MIN_OF_PRO if "pro" in model else 0
        wanted = _BUDGETS[effort] if budget is None else min(budget, _BUDGETS["max"])
        return thoughts | {"thinkingBudget": max(wanted, least)}
    level = _LEVELS[effort]
    return thoughts | {
        "thinkingLevel": level if level != "MINIMAL" or _MINIMAL.search(model) else "LOW"
    }


def _tool(tool: Tool) -> Json:
    declared: Json = {"name": tool.name, "description": tool.description}
    if any(value and name not in _NO_ARGUMENTS for name, value in tool.parameters.items()):
        declared["parametersJsonSchema"] = tool.parameters
    return declared


def _tool_config(request: ChatRequest) -> Json | None:
    choice = request.tool_choice
    strict = any(tool.strict for tool in request.tools)
    if not request.tools or (choice is None and not strict):
        return None
    if isinstance(choice, ForcedTool):
        calling: Json = {"mode": "ANY", "allowedFunctionNames": [choice.name]}
    elif strict and choice in (None, "auto"):
        calling = {"mode": "VALIDATED"}
    else:
        calling = {"mode": _MODES[choice or "auto"]}
    return {"functionCallingConfig": calling}


def _contents(messages: tuple[Message, ...], origin: str, *, wants_seals: bool) -> list[Json]:
    turns = alternating(
        (each.role, _parts(each.parts, origin)) for each in messages if each.role != "system"
    )
    if wants_seals:
        for _, parts in turns:
            call = next((each for each in parts if "functionCall" in each), None)
            if call is not None:
                call.setdefault("thoughtSignature", _UNSEALED)
    sides = {"user": "user", "assistant": "model"}
    return [{"role": sides[role], "parts": parts} for role, parts in turns]


def _parts(parts: tuple[Part, ...], origin: str) -> list[Json]:
    result: list[Json] = []
    seal = ""
    for part in parts:
        if seal:
            on_text = isinstance(part, TextPart)
            sealed = (_part(part, origin) if on_text else []) or [{"text": ""}]
            result += [each | {"thoughtSignature": seal} for each in sealed]
            seal = ""
            if on_text:
                continue
        seal_origin, found = opened(part.signature) if isinstance(part, ReasoningPart) else ("", "")
        if seal_origin == ON_TEXT[origin]:
            seal = found
        else:
            result += _part(part, origin)
    return [*result, {"text": "", "thoughtSignature": seal}] if seal else result


def _part(part: Part, origin: str) -> list[Json]:
    match part:
        case TextPart(text=text):
            return [{"text": text}] if text else []
        case ImagePart() | ImageUrlPart():
            return [_image(with_bytes(part))]
        case FilePart():
            return [_file(part)]
        case ReasoningPart(text=text, signature=signature):
            seal = own(signature, origin)
            return [{"text": text, "thought": True, "thoughtSignature": seal}] if seal else []
        case ToolCall():
            call = {"id": part.id, "name": part.name, "args": arguments_object(part.arguments)}
            seal = own(part.signature, origin)
            return [{"functionCall": call, **({"thoughtSignature": seal} if seal else {})}]
        case _:
            response = {"error" if part.is_error else "output": part.content}
            answer = {"id": part.call_id, "name": part.name, "response": response}
            return [{"functionResponse": answer}]


def _image(image: ImagePart | ImageUrlPart) -> Json:
    if isinstance(image, ImagePart):
        return _inline(image)
    ending = _ENDING.search(image.url)
    media_type = _MEDIA_TYPES.get(ending[1].lower()) if ending else None
    return {"fileData": {"fileUri": image.url} | ({"mimeType": media_type} if media_type else {})}


def _file(file: FilePart) -> Json:
    """The part for a file; Gemini gets only the text of text files, and no file names."""
    refuse_citations(file, "Gemini")
    return {"text": as_text_part(file, "Gemini").text} if file.is_text else _inline(file)


def _inline(part: ImagePart | FilePart) -> Json:
    return {"inlineData": {"mimeType": part.media_type, "data": part.base64}}
