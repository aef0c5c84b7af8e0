"""The vocabulary: steps that most pipelines are made of."""

from __future__ import annotations

from orchestra.steps.classify import classify
from orchestra.steps.embed import embed, embed_all
from orchestra.steps.generate import generate
from orchestra.steps.judge import judge
from orchestra.steps.prompt import prompt
from orchestra.steps.retrieve import retrieve
from orchestra.steps.tools import tool

__all__ = ["classify", "embed", "embed_all", "generate", "judge", "prompt", "retrieve", "tool"]
