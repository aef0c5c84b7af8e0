"""Embedders over a route, and embedders that would need themselves."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from orchestra.config import default_bindings
from orchestra.config.reading import read
from orchestra.values import Vector
from tests.config.mistakes import FILE, problems
from tests.providers.upstream import Visit, run, upstream

VLLM = """
provider = "vllm"
model = "m"
base_url = "http://a/v1"
"""
BY_E = 'coalesce = { similarity = 0.9, embedder = "e" }\n'
BY_F = BY_E.replace('"e"', '"f"')


def test_an_embedder_may_be_a_route_of_models_that_make_vectors() -> None:
    models = """
        [models.a]
        provider = "openai"
        model = "text-embedding-3-small"
        [models.b]
        provider = "azure"
        model = "text-embedding-3-small"
        resource = "eu"
        [models.chat]
        provider = "anthropic"
        model = "claude-haiku-4-5"
        [routes.vectors]
        models = ["a", "b"]
        [routes.chats]
        models = ["chat"]
        [embedders.default]
        """
    found = read(dedent(models) + 'model = "vectors"\n', FILE)
    embedder = found.embedders["default"]
    assert embedder.route is found.routes["vectors"]
    assert embedder.model is found.models["a"]
    (problem,) = problems(dedent(models) + 'model = "chats"\n')
    assert "embedders.default.model: model" in str(problem)
    assert "of 'anthropic' makes no vectors" in str(problem)
    (problem,) = problems(dedent(models) + 'model = "vector"\n')
    assert (problem.code, problem.fix) == ("unknown-model", "did you mean 'vectors'?")


def test_an_embedder_over_a_route_has_the_vectors_of_whoever_answers(tmp_path: Path) -> None:
    vectors = b'{"data":[{"index":0,"embedding":[3,4]}],"usage":{"prompt_tokens":1}}'
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

    async def down(visit: Visit) -> None:
        await visit.request()
        await visit.send(head % (b"500 Down", 2), b"{}")

    async def up(visit: Visit) -> None:
        await visit.request()
        await visit.send(head % (b"200 OK", len(vectors)), vectors)

    async def main() -> list[Vector]:
        async with upstream(down) as first, upstream(up) as second:
            models = "".join(
                f"[models.{name}]{VLLM.replace('http://a', f'http://127.0.0.1:{each.port}')}"
                for name, each in (("a", first), ("b", second))
            )
            route = '[routes.r]\nmodels = ["a", "b"]\n[embedders.e]\nmodel = "r"\ndimensions = 2'
            (tmp_path / "c.toml").write_text(models + route)
            with default_bindings(tmp_path, config=tmp_path / "c.toml", environ={}) as bindings:
                return await bindings.embedder("e").embed(["sky"])

    assert run(main) == [Vector.of([0.6, 0.8])]


@pytest.mark.parametrize(
    ("text", "circular"),
    [
        (f"[models.m]{VLLM}{BY_E}[embedders.e]\nmodel = 'm'", "e"),
        (f"[models.m]{VLLM}[routes.r]\nmodels = ['m']\n{BY_E}[embedders.e]\nmodel = 'r'", "e"),
        (f"[embedders.e]{VLLM}{BY_E}", "e"),
        (f"[embedders.e]{VLLM}{BY_F}[embedders.f]{VLLM}{BY_E}", "ef"),
        (f"[embedders.e]{VLLM}[embedders.f]{VLLM}{BY_E}", ""),
        (f"[models.m]{VLLM}{BY_E}[embedders.e]{VLLM}[embedders.f]\nmodel = 'm'", ""),
        (f"[models.m]{VLLM}coalesce = true\n[embedders.default]\nmodel = 'm'", ""),
    ],
)
def test_an_embedder_is_not_made_of_a_model_that_needs_it(text: str, circular: str) -> None:
    """To make one of the two, the other would have to be there."""
    if not circular:
        assert all(each.route is None for each in read(text, FILE).embedders.values())
        return
    found = problems(text)
    assert len(found) == len(circular)
    for name, problem in zip(circular, found, strict=True):
        assert f"embedders.{name}: its own model compares questions with it" in problem.message
