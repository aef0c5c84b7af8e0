"""The steps of most pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.steps.classify import classify
from orchestra.steps.conversation.tools import tool
from orchestra.steps.embed import embed, embed_all
from orchestra.steps.generate import generate
from orchestra.steps.judge import judge
from orchestra.steps.prompt import prompt
from orchestra.steps.read import cut, pages, text_of
from orchestra.steps.rerank import rerank
from orchestra.steps.retrieve import nearest, retrieve

__all__ = [
    "classify",
    "cut",
    "embed",
    "embed_all",
    "generate",
    "judge",
    "nearest",
    "pages",
    "prompt",
    "rerank",
    "retrieve",
    "text_of",
    "tool",
]

if not TYPE_CHECKING:  # otherwise a type checker would assume that every name exists

    def __getattr__(name: str) -> object:
        from orchestra.homes import missing

        raise missing(__name__, name)
