"""Clients that others have written on top of OpenAI's API: LangChain, simonw's `llm`, curl."""

from __future__ import annotations

import json
from pathlib import Path

from tests.clients.programs import OTHERS, python_of_clients, run

HERE = Path(__file__).parent
LLM_MODELS = """
- model_id: ours
  model_name: gpt-4o
  api_base: "{url}"
  supports_tools: true
  supports_schema: true
- model_id: ours-pipeline
  model_name: shout
  api_base: "{url}"
"""


@OTHERS
def test_langchain(ours: str) -> None:
    printed = run(python_of_clients(), str(HERE / "langchain_asks.py"), ours)
    assert json.loads(printed) == {
        "whole": "one two three",
        "tokens": 5,
        "streamed": ["one ", "two ", "three"],
        "streamed_tokens": 5,
        "calls": [["weather", {"city": "Paris"}]],
        "person": {"name": "Ada", "age": 36},
        "pipeline": "by the pipeline",
        "vectors": [[1.0] * 4, [3.0] * 4],
    }


@OTHERS
def test_llm(ours: str, tmp_path: Path) -> None:
    """Streamed and not, a schema, a pipeline; with a home of its own."""
    (tmp_path / "extra-openai-models.yaml").write_text(LLM_MODELS.format(url=ours))

    def llm(*words: str) -> str:
        return run(
            python_of_clients(),
            "-m",
            "llm",
            *words,
            LLM_USER_PATH=str(tmp_path),
            OPENAI_API_KEY="any",
        ).strip()

    schema = llm("prompt", "-m", "ours", "--no-stream", "--schema", "name, age int", "who?")
    assert json.loads(schema) == {"name": "Ada", "age": 36}
    assert llm("prompt", "-m", "ours-pipeline", "by the pipeline") == "by the pipeline"


def test_curl(ours: str) -> None:
    """What a person reads in a terminal."""
    body = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hi you"}]}
    said = run(
        *("curl", "-sN", f"{ours}/chat/completions", "-H", "Content-Type: application/json"),
        *("-d", json.dumps(body)),
    )
    frames = said.strip().split("\n\n")
    assert frames[-1] == "data: [DONE]"
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-1]]
    text = "".join(each["choices"][0]["delta"].get("content", "") for each in chunks)
    assert text == "hi you"
