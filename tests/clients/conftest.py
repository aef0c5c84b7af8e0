"""One server of ours for all clients, in front of a fake of OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.programs import running
from tests.clients.upstream import Upstream, playing

CONFIG = """
[models.default]
provider = "openai"
model = "gpt-4o"
base_url = "{url}"

[models."gpt-4o"]
provider = "openai"
model = "gpt-4o"
base_url = "{url}"
prices = {{ input = 2.5, output = 10.0 }}

[models.thinking]
provider = "openai"
model = "gpt-5"
base_url = "{url}"

[models.claude]
provider = "anthropic"
model = "claude-haiku-4-5"
base_url = "{url}"

[models."team/gpt-4o-mini"]
provider = "openai"
model = "gpt-4o-mini"
base_url = "{url}"

[routes.either]
models = ["gpt-4o", "team/gpt-4o-mini"]

[models.text-embedding-3-small]
provider = "openai"
model = "text-embedding-3-small"
base_url = "{url}"
"""


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    with playing() as server:
        yield server


@pytest.fixture(scope="session")
def ours(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a server of ours, in a process of its own."""
    config = tmp_path_factory.mktemp("deployment") / "orchestra.toml"
    config.write_text(CONFIG.format(url=upstream.url))
    with running(config) as url:
        yield url
