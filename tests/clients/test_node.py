"""Clients in JavaScript, unchanged: OpenAI's and Anthropic's own for Node, and the Vercel AI SDK."""

from __future__ import annotations

import pytest

from tests.clients.scripts import ONCE, PACKAGES, asked
from tests.clients.upstream import Upstream

pytestmark = ONCE
PERSON = {"name": "Ada", "age": 36}
VECTORS = [[1.0] * 4, [3.0] * 4]


def test_openais_own_for_node(ours: str, upstream: Upstream) -> None:
    upstream.left.clear()
    saw = asked("openai_asks.mjs", ours)
    assert {"gpt-4o", "team/gpt-4o-mini", "either", "shout"} <= set(saw.pop("models"))
    assert saw == {
        "whole": ["one two three", "stop", 5, True],
        "streamed": [["one ", "two ", "three"], 2],
        "tools": "sunny in Paris",
        "streamedTools": ["tool_calls", ['{"city": "Paris"}']],
        "schema": PERSON,
        "vectors": [VECTORS, VECTORS[1]],
        "errors": [
            ["NotFoundError", 404, "model_not_found"],
            ["RateLimitError", 429, "provider_rate_limited"],
            ["InternalServerError", 502, "provider_key"],
        ],
        "broken": ["break", True],
        "left": True,
    }
    assert upstream.left.wait(10), "the provider sees at once that nobody listens any more"


def test_vercels_ai_sdk(ours: str) -> None:
    assert asked("vercel_asks.mjs", ours) == {
        "whole": ["one two three", 5, "stop"],
        "streamed": [["one ", "two ", "three"], 2],
        "tools": ["sunny in Paris", [["weather", {"city": "Paris"}]]],
        "schema": PERSON,
        "vectors": VECTORS,
        "shown": [
            ["text", "sunny in Paris"],
            ["data-tool", {"tool": "weather", "state": "finished"}],
            ["data-place", {"city": "Paris"}],
        ],
        "brokenShown": [
            "the model's provider failed; the server's log says more",
            "input 'question' is missing",
        ],
        "broken": ["break", True],
    }


def test_what_asks_the_responses_api_by_itself(ours: str) -> None:
    assert asked("responses_asks.mjs", ours) == {
        "node": ["one two three", ["one ", "two ", "three"], "one two three", "four"],
        "nodeBroken": "APIError",
        "whole": ["one two three", 5, "stop"],
        "streamed": [["one ", "two ", "three"], 2],
        "tools": ["sunny in Paris", [["weather", {"city": "Paris"}]]],
        "streamedTools": "sunny in Paris",
        "schema": PERSON,
        "broken": ["break", True],
    }


def test_what_asks_anthropics_api(ours: str) -> None:
    for needed in ("@anthropic-ai/sdk", "@ai-sdk/anthropic"):
        if not (PACKAGES / needed).exists():
            pytest.skip(f"{needed} is not there; `nox -s servers` installs it")
    assert asked("anthropic_asks.mjs", ours) == {
        "node": ["one two three", "end_turn", 5],
        "nodeStreamed": [["one ", "two ", "three"], 2],
        "nodeTools": ["weather", {"city": "Paris"}, "tool_use"],
        "nodeToolRunner": "sunny in Paris",
        "nodeErrors": [
            ["RateLimitError", "rate_limit_error"],
            ["NotFoundError", "not_found_error"],
            ["APIError", "api_error"],
        ],
        "whole": ["one two three", 5, "stop"],
        "streamed": [["one ", "two ", "three"], 2],
        "tools": ["sunny in Paris", [["weather", {"city": "Paris"}]]],
        "streamedTools": "sunny in Paris",
        "schema": PERSON,
        "broken": ["break", True],
    }
