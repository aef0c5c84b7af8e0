"""Reranking as a deployment does it: from the table of a model to a server, and back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import trio

from orchestra import open_engine, pipeline
from orchestra.accounts import Certainty
from orchestra.cli.pinging import ping_all, targets
from orchestra.config import LocalBindings
from orchestra.config.reading import read
from orchestra.errors import (
    AuthenticationError,
    BindingError,
    InvalidRequestError,
    MalformedStreamError,
    ModelError,
    RateLimitError,
)
from orchestra.steps import rerank
from orchestra.values import Passage
from tests.config.mistakes import problems
from tests.providers.upstream import Handler, Visit, upstream

FILE = Path("orchestra.toml")
TABLE = """
[models.ranker]
provider = "{provider}"
model = "{model}"
base_url = "http://127.0.0.1:{port}/v2"
prices = {{ {prices} }}
"""
NOTES = [
    Passage("1", "At nine.", "doors.md", metadata={"page": 3}),
    Passage("2", "Outside.", "bikes.md"),
    Passage("3", "No.", "dogs.md"),
]
COHERE = {
    "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
    "meta": {"billed_units": {"search_units": 1}},
}
ALL = [{"index": at, "relevance_score": score} for at, score in ((1, 0.9), (0, 0.1), (2, -3.0))]


@pipeline
def ranked(passages: list[Passage], question: str) -> list[Passage]:
    return rerank(passages, question, model="ranker", top=2)


def answers(asked: list[bytes], status: str, body: Any) -> Handler:
    written = json.dumps(body).encode()

    async def handle(visit: Visit) -> None:
        while True:
            asked.append(await visit.request())
            await visit.send(
                b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (status.encode(), len(written), written)
            )

    return handle


@asynccontextmanager
async def bound(
    port: int, provider: str, model: str, prices: str = ""
) -> AsyncIterator[LocalBindings]:
    text = TABLE.format(port=port, provider=provider, model=model, prices=prices)
    bindings = LocalBindings(deployment=read(text, FILE), environ={"COHERE_API_KEY": "sk-test-123"})
    with closing(bindings):
        yield bindings


@pytest.mark.parametrize(
    ("provider", "model", "prices", "body", "costs"),
    [
        (
            "cohere",
            "rerank-v3.5",
            "search = 2",
            COHERE,
            (2_000_000, 0),
        ),
        (
            "openai-compatible",
            "jina-reranker-v3",
            "input = 0.02, output = 0",
            {"results": ALL, "usage": {"total_tokens": 50}},
            (1_000, 0),
        ),
        (
            "vllm",
            "BAAI/bge-reranker-v2-m3",
            "",
            {"results": ALL[:2], "usage": {"total_tokens": 50}},
            (0, 1),
        ),
    ],
)
def test_a_run_gets_the_best_passages_and_is_charged(
    provider: str, model: str, prices: str, body: Any, costs: tuple[int, int]
) -> None:
    async def main() -> None:
        asked: list[bytes] = []
        async with (
            upstream(answers(asked, "200 OK", body)) as server,
            bound(server.port, provider, model, prices) as bindings,
            open_engine(bindings) as engine,
        ):
            run = engine.start(ranked, {"passages": NOTES, "question": "Where?"})
            found = await run.result()
            assert [(each.id, each.score) for each in found] == [("2", 0.9), ("1", 0.1)]
            assert found[1].metadata == {"page": 3}
            usage = run.usage
            assert usage is not None
            assert (usage.cost_nanodollars, usage.unpriced_calls) == costs
            assert usage.input_tokens == 50 or usage.certainty is Certainty.ESTIMATED
        (request,) = asked
        head, _, sent = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v2/rerank HTTP/1.1")
        assert json.loads(sent)["documents"] == ["At nine.", "Outside.", "No."]
        assert json.loads(sent)["model"] == model

    trio.run(main)


@pytest.mark.parametrize(
    ("provider", "status", "body", "kind", "retryable"),
    [
        ("cohere", "401 No", {"message": "invalid api token"}, AuthenticationError, False),
        ("cohere", "429 No", {"message": "trial key, 10 calls / minute"}, RateLimitError, True),
        ("cohere", "400 No", {"message": "too many documents"}, InvalidRequestError, False),
        (  # a server of llama.cpp that was not started for reranking
            "llama-cpp",
            "501 No",
            {
                "error": {
                    "code": 501,
                    "message": "This server does not support reranking. Start it with `--reranking`",
                    "type": "not_supported_error",
                }
            },
            ModelError,
            False,
        ),
        ("vllm", "200 OK", {"results": [*ALL, ALL[0]]}, MalformedStreamError, None),
        ("vllm", "200 OK", {"results": ALL[:1]}, MalformedStreamError, None),
        (
            "vllm",
            "200 OK",
            {"results": [{**ALL[0], "index": 3}, ALL[1]]},
            MalformedStreamError,
            None,
        ),
    ],
)
def test_a_fault_is_an_error_of_its_class_and_never_a_passage(
    provider: str, status: str, body: Any, kind: type[ModelError], retryable: bool | None
) -> None:
    async def main() -> None:
        async with (
            upstream(answers([], status, body)) as server,
            bound(server.port, provider, "bge-reranker") as bindings,
            open_engine(bindings) as engine,
        ):
            with pytest.raises(kind) as caught:
                await engine.run(ranked, passages=NOTES, question="Where?")
            error = caught.value
            assert (error.provider, error.model) == (provider, "bge-reranker")
            assert retryable in (None, error.retryable), error

    trio.run(main)


def test_a_ping_reranks() -> None:
    async def main() -> None:
        body = {"results": [{"index": 0, "score": 1}, {"index": 1, "score": 0}]}
        asked: list[bytes] = []
        async with (
            upstream(answers(asked, "200 OK", body)) as server,
            bound(server.port, "cohere", "rerank-v3.5") as bindings,
        ):
            chosen = targets(bindings.deployment, ["ranker"])
            (found,) = await ping_all(chosen, bindings, timeout_s=30, at_once=1)
        assert found.answered, found
        assert found.text.endswith("a ranking of 2 texts")
        assert b"POST /v2/rerank" in asked[0]

    trio.run(main)


ROUTE = """
[models.cohere]
provider = "cohere"
model = "rerank-v3.5"
[models.chat]
provider = "openai"
model = "gpt-5"
[models.unknown]
provider = "vllm"
model = "our-own"
[routes.r]
models = ["cohere", "unknown"]
"""


def test_what_models_and_routes_can_do_is_known_without_their_keys() -> None:
    with closing(LocalBindings(deployment=read(ROUTE, FILE), environ={})) as bindings:
        able = {name: bindings.capabilities(name).reranking for name in bindings.names("model")}
        assert {"cohere": True, "chat": False, "unknown": None, "r": True}.items() <= able.items()
        with pytest.raises(BindingError, match=r"no model named 'no' .*'cohere'"):
            bindings.capabilities("no")


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('"cohere", "unknown"', '"cohere", "chat"', '"cohere" reranks, but "chat" does not'),
        (
            'model = "rerank-v3.5"',
            'model = "rerank-v3.5"\nprices = { search = 0.002 }',
            "0.002 is a price for one search, and this is for a thousand",
        ),
        (
            'model = "our-own"',
            'model = "our-own"\nbase_url = "http://localhost:8000/v1/rerank"',
            "it ends in /rerank, which orchestra appends to it",
        ),
        (
            'models = ["cohere", "unknown"]',
            'models = ["cohere", "unknown"]\nby = "cost"',
            '"cohere" has no prices.input, which',
        ),
    ],
)
def test_mistakes_in_the_table_of_a_rerank_model_are_told(
    before: str, after: str, says: str
) -> None:
    assert before in ROUTE
    told = "\n".join(map(str, problems(ROUTE.replace(before, after))))
    assert says in told
