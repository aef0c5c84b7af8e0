"""The relays: how each is started in front of a provider, and how its clients authenticate."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from benchmarks.servers.process import ROOT

LITELLM = "LITELLM"
"""The variable that names the LiteLLM program, which needs an environment of its own."""
KEY = "sk-benchmark"
MODEL = "fast"
"""The model's name in relays that have names of their own."""
QUESTION = "What is the meaning of this?"


@attrs.frozen
class Place:
    """Where a relay is to run: a folder of its own, the provider's port, and how many processes.

    `state` is the url of what several processes of ours share.
    """

    folder: Path
    provider: int
    workers: int
    state: str = "sqlite:state.sqlite"


@attrs.frozen
class Started:
    """A command line, and the key that clients are to send."""

    arguments: tuple[str, ...]
    key: str = KEY
    port: int | None = None
    """Where it accepts, if it does not print that."""
    program: str = sys.executable
    environ: Mapping[str, str] = attrs.field(factory=dict)


def ours(place: Place) -> Started:
    """With a key, limits and budgets of callers and the model, prices, breaker, journal, metrics.

    Several processes share all of it, as they do where it is more than a benchmark.
    """
    config = place.folder / "orchestra.toml"
    state = SHARED if place.workers > 1 else ALONE
    config.write_text((OURS + state).format(**attrs.asdict(place)))
    key = subprocess.run(
        [*_ORCHESTRA, "keys", "create", *_WHO, "--config", str(config)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    serving = ("benchmarks.servers.pipelines:ticks", "--port", "0", "--config", str(config))
    workers = ("--workers", str(place.workers)) if place.workers > 1 else ()
    arguments = (*_ORCHESTRA[1:], "serve", *serving, *workers)
    return Started(arguments, key, environ={"PROVIDER_KEY": "none"})


_ORCHESTRA = (sys.executable, "-m", "orchestra")
_WHO = (
    *("--organisation", "acme", "--user", "ada", "--pipelines", "*", "--models", "*"),
    *("--requests-per-minute", "100000000", "--day-dollars", "100000"),
)
OURS = """
[server]
keys = "required"

[stores]
data = "{folder}"

[models.fast]
provider = "openai"
model = "gpt-4o-mini"
base_url = "http://127.0.0.1:{provider}/v1"
key_env = "PROVIDER_KEY"
prices = {{ input = 0.15, output = 0.60 }}

[models.fast.limits]
requests_per_minute = 100_000_000
tokens_per_minute = 100_000_000_000
concurrency = 100_000

[limits.user]
requests_per_minute = 100_000_000
tokens_per_minute = 100_000_000_000

[budgets]
request = "1"
user = {{ day = "100000" }}
organisation = {{ month = "900000" }}
"""
ALONE = """
[state]
url = "memory:"
"""
SHARED = """
[state]
url = "{state}"
timeout_s = 5
"""


def fastapi(place: Place) -> Started:
    """A relay as one writes it with FastAPI and the `openai` SDK, and nothing else."""
    port = _free_port()
    environ = {"PROVIDER": f"http://127.0.0.1:{place.provider}/v1"}
    arguments = ("-m", "benchmarks.servers.fast_relay", str(port), str(place.workers))
    return Started(arguments, port=port, environ=environ)


def litellm(place: Place) -> Started:
    """LiteLLM's proxy without a database: a master key, limits of the model, a budget of all.

    Raises:
        ImportError: it is not installed.
    """
    program = os.environ.get(LITELLM)
    if program is None:
        raise ImportError(f"LiteLLM is not installed: ${LITELLM} names no program")
    config, port = place.folder / "litellm.yaml", _free_port()
    config.write_text(LITE.format(provider=place.provider, key=KEY))
    serving = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port))
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    arguments = (*serving, "--num_workers", str(place.workers))
    return Started(arguments, port=port, program=program, environ=environ)


LITE = """
model_list:
  - model_name: fast
    litellm_params:
      model: openai/gpt-4o-mini
      api_base: http://127.0.0.1:{provider}/v1
      api_key: none
      rpm: 100000000
      max_parallel_requests: 100000
general_settings:
  master_key: {key}
litellm_settings:
  telemetry: false
  max_budget: 1000000
  budget_duration: 1d
"""


def asked(tokens: int, *, streamed: bool) -> dict[str, Any]:
    """A question, as every relay takes it."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": tokens,
    }
    return {**body, "stream": True} if streamed else body


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


RELAYS: Mapping[str, Callable[[Place], Started]] = {
    "orchestra": ours,
    "fastapi+openai": fastapi,
    "litellm": litellm,
}
