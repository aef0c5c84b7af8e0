"""The bodies of InvokeModel on Bedrock: one format for each model family.

Titan, Llama and Mistral take one text, so the conversation is written into their templates.
Template marks inside messages are broken up, so that no message can begin a turn of another role.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby

from orchestra.codecs.anthropic.request import anthropic_body
from orchestra.codecs.bedrock.extra_fields import EXTRAS
from orchestra.codecs.bedrock.request import chat_body, system_texts
from orchestra.codecs.dialect import refuse
from orchestra.codecs.files import without_files
from orchestra.codecs.raw_json import merged, without_nulls
from orchestra.errors import CapabilityError
from orchestra.values import ChatRequest, ImageUrlPart, Json, ReasoningPart, TextPart

ANTHROPIC_VERSION = "bedrock-2023-05-31"
_UNKNOWN = (
    *("output", "reasoning_effort", "seed", "presence_penalty", "frequency_penalty", "logprobs"),
)
"""The fields of a request that no family but Claude has."""
_TEXT_ONLY = ("tools", *_UNKNOWN)
_MARKS = re.compile(r"<\||\[/?INST\]|</?s>|<</?SYS>>")
_LLAMA_3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_LLAMA_4 = ("<|begin_of_text|>", "<|header_start|>", "<|header_end|>", "<|eot|>")
_SPEAKERS = {"user": "User", "assistant": "Bot"}
_TITANS_TURNS = re.compile(r"^(?=(?:User|Bot):)", re.MULTILINE)


def invoke_body(model: str, request: ChatRequest, family: str = "") -> Json:
    """The body of a call; the extras of `bedrock` are merged into it.

    The family is found in the model's id. `family` is for ids without it, such as the ARN of a
    custom inference profile: `anthropic.claude-sonnet-4-6`, `amazon.nova`, `amazon.titan-text`,
    `meta.llama3` or `mistral.`.

    Raises:
        CapabilityError: the family is unknown, or cannot express something in the request.
    """
    known_as = family or model
    for part, body in _FAMILIES.items():
        if part in known_as:
            return merged(body(known_as, request), request.extras.get(EXTRAS, {}))
    raise CapabilityError(
        f"{known_as!r} is not supported with InvokeModel, only the families "
        f"{', '.join(_FAMILIES)}: use Converse, or name the model's family"
    )


def _claude(model: str, request: ChatRequest) -> Json:
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, ImageUrlPart) and not part.url.startswith("data:"):
                raise CapabilityError(
                    f"Bedrock does not fetch {part.url[:200]!r}: send the image itself, not its "
                    "address"
                )
    body = anthropic_body(None, request, False, known_as=model)
    return {"anthropic_version": ANTHROPIC_VERSION, **body}


def _nova(model: str, request: ChatRequest) -> Json:
    refuse(request, f"{model} by InvokeModel", *_UNKNOWN)
    body: Json = {"schemaVersion": "messages-v1", **chat_body(request, "amazon.nova")}
    top_k = {} if request.top_k is None else {"inferenceConfig": {"topK": request.top_k}}
    return merged(body, top_k)


def _titan(model: str, request: ChatRequest) -> Json:
    refuse(request, model, *_TEXT_ONLY, "top_k")
    config = {
        "maxTokenCount": request.output_tokens_max,
        "temperature": request.temperature,
        "topP": request.top_p,
        "stopSequences": list(request.stop) or None,
    }
    spoken = [("", text) for text in map(_plain, system_texts(request))]
    spoken += [(f"{_SPEAKERS[role]}: ", text) for role, text in _spoken(model, request)]
    lines = [before + _TITANS_TURNS.sub(" ", text) for before, text in spoken]
    open_ = [] if _is_begun(request) else ["Bot:"]
    return {"inputText": "\n".join([*lines, *open_]), "textGenerationConfig": without_nulls(config)}


def _llama(model: str, request: ChatRequest) -> Json:
    refuse(request, model, *_TEXT_ONLY, "top_k", "stop")
    begin, before, after, end = _LLAMA_4 if "llama4" in model else _LLAMA_3
    system = "\n\n".join(map(_plain, system_texts(request)))
    turns_before = [*([("system", system)] if system else []), *_spoken(model, request)]
    turns = [f"{before}{role}{after}\n\n{text}{end}" for role, text in turns_before]
    prompt = begin + "".join(turns)
    if _is_begun(request):
        prompt = prompt.removesuffix(end)
    else:
        prompt += f"{before}assistant{after}\n\n"
    config = {
        "max_gen_len": request.output_tokens_max,
        "temperature": request.temperature,
        "top_p": request.top_p,
    }
    return {"prompt": prompt, **without_nulls(config)}


def _mistral(model: str, request: ChatRequest) -> Json:
    refuse(request, model, *_TEXT_ONLY)
    prompt = "<s>"
    before = "".join(f"{_plain(text)}\n\n" for text in system_texts(request))
    for role, text in _spoken(model, request):
        prompt += f" {text}</s>" if role == "assistant" else f"[INST] {before}{text} [/INST]"
        before = before if role == "assistant" else ""
    config = {
        "max_tokens": request.output_tokens_max,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop": list(request.stop) or None,
    }
    return {"prompt": prompt.removesuffix("</s>"), **without_nulls(config)}


_FAMILIES: Mapping[str, Callable[[str, ChatRequest], Json]] = {
    "anthropic.": _claude,
    "amazon.nova": _nova,
    "amazon.titan-text": _titan,
    "meta.llama": _llama,
    "mistral.": _mistral,
}


def _spoken(model: str, request: ChatRequest) -> Iterator[tuple[str, str]]:
    """The role and text of each turn; files become text.

    Raises:
        CapabilityError: a part is not text.
    """
    spoken = (each for each in request.messages if each.role != "system")
    for role, messages in groupby(spoken, lambda each: each.role):
        in_turn = tuple(part for message in messages for part in message.parts)
        parts = without_files(in_turn, model)
        for part in parts:
            if not isinstance(part, TextPart | ReasoningPart):
                raise CapabilityError(
                    f"{model} accepts only text, and no {type(part).__name__}: ask another model"
                )
        texts = [part.text for part in parts if isinstance(part, TextPart)]
        yield role, _plain("\n\n".join(texts))


def _is_begun(request: ChatRequest) -> bool:
    """Whether the request has the beginning of the answer: its last turn is the assistant's."""
    return bool(request.messages) and request.messages[-1].role == "assistant"


def _plain(text: str) -> str:
    return _MARKS.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
