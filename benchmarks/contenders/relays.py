"""The relays: how each is started in front of a provider, and how it is asked."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

QUESTION = "What is the meaning of this?"
KEY = "sk-benchmark"
LITELLM = "LITELLM"
"""The variable that names the LiteLLM program: its pins do not fit into one environment with ours."""


@attrs.frozen
class Started:
    """A command line."""

    arguments: tuple[str, ...]
    port: int | None = None
    """Where it accepts, if it does not print that."""
    program: str = sys.executable
    environ: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Asked:
    """A request."""

    path: str
    body: dict[str, object]
    headers: dict[str, str]


@attrs.frozen
class Relay:
    """A contender."""

    started: Callable[[Path, int, int], Started]
    """Given a folder of its own, the provider's port, and how many workers."""
    asked: Callable[..., Asked]


def _ours(folder: Path, provider: int, workers: int) -> Started:
    config = folder / "orchestra.toml"
    config.write_text(f"""
[models.fast]
provider = "openai"
model = "gpt-4o-mini"
base_url = "http://127.0.0.1:{provider}/v1"
key_env = "PROVIDER_KEY"
prices = {{ input = 0.15, output = 0.60 }}
limits = {{ requests_per_minute = 100_000_000, tokens_per_minute = 100_000_000_000, concurrency = 100_000 }}

[budgets]
request = "1"
""")
    arguments = ("-m", "orchestra", "serve", "benchmarks.servers.relay_pipelines", "--port", "0")
    more = ("--workers", str(workers)) if workers > 1 else ()
    return Started((*arguments, "--config", str(config), *more), environ={"PROVIDER_KEY": "none"})


def _ask_ours(tokens: int, *, streamed: bool) -> Asked:
    pipeline = "relay" if streamed else "whole"
    accept = {"accept": "text/event-stream" if streamed else "application/json"}
    return Asked(f"/v1/pipelines/{pipeline}/runs", {"inputs": {"question": QUESTION}}, accept)


def _fastapi(folder: Path, provider: int, workers: int) -> Started:
    environ = {"PROVIDER": f"http://127.0.0.1:{provider}/v1"}
    module = ("-m", "benchmarks.servers.fast_relay")
    port = _free_port()
    return Started((*module, str(port), str(workers)), port, environ=environ)


def _litellm(folder: Path, provider: int, workers: int) -> Started:
    program = os.environ.get(LITELLM)
    if program is None:
        raise ImportError(f"LiteLLM is not installed: ${LITELLM} names no program")
    config = folder / "litellm.yaml"
    config.write_text(f"""
model_list:
  - model_name: fast
    litellm_params:
      model: openai/gpt-4o-mini
      api_base: http://127.0.0.1:{provider}/v1
      api_key: none
      rpm: 100000000
      max_parallel_requests: 100000
general_settings:
  master_key: {KEY}
litellm_settings:
  telemetry: false
  max_budget: 1000000
  budget_duration: 1d
""")
    port = _free_port()
    arguments = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port))
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    return Started((*arguments, "--num_workers", str(workers)), port, program, environ)


def _ask_openai(tokens: int, *, streamed: bool) -> Asked:
    body: dict[str, object] = {
        "model": "fast",
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": tokens,
    }
    if streamed:
        body["stream"] = True
    return Asked("/v1/chat/completions", body, {"authorization": f"Bearer {KEY}"})


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


RELAYS: Mapping[str, Relay] = {
    "orchestra": Relay(_ours, _ask_ours),
    "fastapi+openai": Relay(_fastapi, _ask_openai),
    "litellm": Relay(_litellm, _ask_openai),
}
