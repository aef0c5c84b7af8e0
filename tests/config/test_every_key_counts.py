"""No key of `orchestra.toml` is accepted and then ignored: each changes the deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import pytest

from orchestra.config.deployment.deployment import Deployment
from orchestra.config.reading import read
from orchestra.config.toml import spec
from orchestra.config.toml.spec import Kind
from orchestra.errors import ConfigError
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.provider import Provider
from tests.docs.test_settings import tables

FILE = Path("some/orchestra.toml")
REMOTE = 'provider = "openai-compatible"\nmodel = "m"\nbase_url = "https://host.example/v1"\n'
OTHERS = f"[models.a]\n{REMOTE}[models.b]\n{REMOTE}[embedders.vectors]\n{REMOTE}"
"""Models that other tables name."""
MODEL = f"{OTHERS}[models.NAME]\n{REMOTE}"
SECOND = (
    *("true", "false", "0.25", "3", '"vectors"', '["b"]'),
    *('"https://other.example/v1"', '"rediss://other:6379/0"', '"other:Class"'),
)
"""Other values, for keys whose example is the default."""
BESIDE: Mapping[str, str] = {
    **dict.fromkeys(("models.NAME", "embedders.NAME"), REMOTE),
    "models.NAME.limits": "requests_per_minute = 5\nconcurrency = 5\nshared = true\n",
    "models.NAME.coalesce": "similarity = 0.9\n",
    "routes.NAME": 'models = ["a", "b"]\nby = "weight"\n',
    "stores": 'url = "postgresql://localhost/db?sslmode=verify-full"\n',
    "stores.NAME": f"class = {spec.CLASS.example}\n",
    "state": 'url = "rediss://localhost"\ncertificate_file = "cert.pem"\n',
    "server.cors": 'origins = ["https://app.example"]\n',
    "server": 'disconnect = "linger"\n',
    "server.pipelines.NAME": 'disconnect = "linger"\n',
}
"""Of each table the keys without which others are refused, or have no effect."""
BEFORE: Mapping[str, str] = {
    **dict.fromkeys(("models.NAME", "embedders.NAME"), OTHERS),
    **{name: MODEL for name, _ in tables() if name.startswith("models.NAME.")},
    "models.NAME.cache.semantic": f"{MODEL}[models.NAME.cache]\nttl_s = 9\n",
    "routes.NAME": OTHERS,
    "routes.NAME.weights": f'{OTHERS}[routes.NAME]\nmodels = ["a", "b"]\nby = "weight"\n',
}
"""What stands before the table."""
PLACES = [
    (name, "a" if key == "MODEL" else key, kind)
    for name, known in tables()
    for key, kind in known.items()
    if isinstance(kind, Kind)
]


def deployment(name: str, lines: Mapping[str, str]) -> Deployment | None:
    """That of a file with these keys in a table; None if they are wrong."""
    table = "".join(f"{key} = {value}\n" for key, value in lines.items())
    try:
        return read(f"{BEFORE.get(name, '')}[{name}]\n{table}", FILE)
    except ConfigError:
        return None


def beside(name: str, key: str) -> dict[str, str]:
    """The other keys of the table."""
    if name == "models.NAME" and key in spec.OWN_MODEL and key not in spec.REMOTE:
        return {"class": spec.CLASS_OF_MODEL.example}
    pairs = (line.partition(" = ") for line in BESIDE.get(name, "").splitlines())
    return {key: value for key, _, value in pairs}


def values(kind: Kind) -> Iterator[str]:
    """Some values, of which the table takes those that fit."""
    yield kind.example
    yield from (f'"{word}"' for word in get_args(kind.type) if isinstance(word, str))
    yield from SECOND


@pytest.mark.parametrize(
    ("name", "key", "kind"), PLACES, ids=[f"{name}.{key}" for name, key, _ in PLACES]
)
def test_a_key_changes_the_deployment(name: str, key: str, kind: Kind) -> None:
    others = beside(name, key)
    found = [deployment(name, {**others, key: value}) for value in values(kind)]
    found.append(deployment(name, others))
    found.append(deployment(name, {each: value for each, value in others.items() if each != key}))
    valid = [each for each in found if each is not None]
    assert valid, "no value of it is accepted"
    assert any(each != valid[0] for each in valid), f"[{name}] {key} has no effect"


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=lambda row: row.name)
def test_an_option_of_a_provider_changes_the_deployment(provider: Provider) -> None:
    lines = {**beside("models.NAME", "provider"), "provider": f'"{provider.name}"'}
    for option in provider.options:
        with_option = deployment("models.NAME", {**lines, option.name: '"v1"'})
        assert None is not with_option != deployment("models.NAME", lines)
