"""OpenAI's own tests of its client for chat, embeddings and models, against a server of ours.

They come with its source distribution, and expect a server that makes up an answer of the right type
to whatever they send. Ours has the models of its configuration, and what was kept: they are called
there as they are called in these tests, and nothing else is prepared.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from orchestra.server.openai.stored import Kept, StoredCompletions
from orchestra.stores.state.sqlite import SqliteState
from tests.clients.conftest import CONFIG
from tests.clients.programs import OTHERS, PYTHON, ROOT, python_of_clients, run, running
from tests.clients.upstream import Upstream

SUITES = tuple(
    f"tests/api_resources/{each}" for each in ("chat", "test_embeddings.py", "test_models.py")
)
MODELS = """
[server]  # they send nearly every field there is, at once
pass_fields = ["audio", "web_search_options"]

[state]
url = "sqlite:state.sqlite"
timeout_s = 5

[models.gpt-6-astra]
provider = "openai"
model = "gpt-6-astra"
base_url = "{url}"

[models."ft:gpt-4o-mini:acemeco:suffix:abc123"]
provider = "openai"
model = "gpt-4o-mini"
base_url = "{url}"
"""
NOT_OURS = (
    # The client asks for base64 by itself, and then its strict mode wants a list of numbers.
    "Embeddings and (test_method_create or test_raw_response_create or test_streaming_response_create)"
    " and (strict or aiohttp) and not with_all_params",
)
KEPT = Kept(
    organisation="",
    user="",
    model="gpt-6-astra",
    completion={
        "id": "completion_id",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-6-astra",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "string", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
    },
    messages=[{"id": "m-0", "role": "assistant", "content": "string", "refusal": None}],
    metadata={},
)


@OTHERS
def test_openais_own_tests_pass(upstream: Upstream, tmp_path: Path) -> None:
    python = python_of_clients()
    sources = sorted(PYTHON.parents[1].glob("openai-*/tests"))
    if not sources:
        pytest.skip(f"the sources of openai are not beside {PYTHON}; `nox -s clients` loads them")
    config = tmp_path / "orchestra.toml"
    config.write_text((CONFIG + MODELS).format(url=upstream.url))
    upstream.on_seed = lambda: trio.run(keep, tmp_path / "state.sqlite")
    with running(config) as url:
        said = run(
            *(python, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider"),
            *("-p", "seeding", "-k", " and ".join(f"not ({each})" for each in NOT_OURS), *SUITES),
            cwd=sources[-1].parent,
            TEST_API_BASE_URL=url,
            SEED_URL=upstream.url + "/seed",
            PYTHONPATH=str(ROOT / "tests" / "clients"),
        )
    assert re.search(r"211 passed, 9 deselected", said), said[-2000:]


async def keep(path: Path) -> None:
    """Keep a completion as if a client had asked for it."""
    state = SqliteState(path, timeout_s=5)
    try:
        assert await StoredCompletions(lambda: state).keep("completion_id", KEPT)
    finally:
        state.close()
