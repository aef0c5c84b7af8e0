"""Streams of OpenAI's dialect, made for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from orchestra.answers import Completion
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import OPENAI, Quirks
from orchestra.values import Json, ModelEvent
from tests.codecs.streamed import events_of

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def chunk(delta: Json | None = None, finish: str | None = None, **more: Any) -> Json:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "a", "model": "m", "choices": [choice], **more}


def frame(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def stream(*chunks: Json, done: bool = True) -> bytes:
    return b"".join(map(frame, chunks)) + (b"data: [DONE]\n\n" if done else b"")


def decode(pieces: Iterable[bytes], quirks: Quirks = OPENAI) -> list[ModelEvent]:
    return events_of(OpenAiDialect(quirks), pieces)


def said(*chunks: Json, quirks: Quirks = OPENAI) -> Completion:
    return Completion.of(decode([stream(*chunks)], quirks))
