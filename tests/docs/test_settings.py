"""`docs/settings.md` has every key of `orchestra.toml`, and no other: kinds and defaults as in code.

`python -m tests.docs.test_settings` prints the rows as they have to begin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest

from orchestra.config.deployment.server_rules import CANCELS, USUAL_RULES
from orchestra.config.reading import read
from orchestra.config.toml import spec
from orchestra.config.toml.spec import Kind, Spec
from orchestra.errors import ConfigError
from orchestra.policies.caching.cache import CacheRule, SemanticRule
from orchestra.policies.flights.coalesce import CoalesceRule
from orchestra.policies.limits.allowance import NO_LIMITS
from orchestra.policies.money.budget import NO_LIMIT, Budgets
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.settings import ModelSettings
from orchestra.runs.settings import RunsSettings
from orchestra.server.settings import Settings
from orchestra.stores.postgres.settings import PostgresSettings
from orchestra.stores.state.settings import StateSettings

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text("utf-8")
HEADING = re.compile(r"^## `\[(\S+?)\]`", re.MULTILINE)
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (`.+?`|required|-) \| (.+) \|$", re.MULTILINE)
REQUIRED = object()
PROVIDER = Kind(str, "the name of [a provider](models.md#providers)", '"openai"')
ONE = Kind(spec.TEXT.type, "a text", '"gpt-5.4-mini"')
NAMED: Mapping[str, Spec] = {
    "models.NAME": {"provider": PROVIDER, "model": ONE, **spec.REMOTE, **spec.OWN_MODEL},
    "models.NAME.coalesce": spec.COALESCE,
    "embedders.NAME": {"model": ONE, "dimensions": spec.DIMENSIONS},
    "routes.NAME": spec.ROUTE,
    "routes.NAME.weights": {"MODEL": spec.WEIGHT},
    "limits.user": spec.OWNER,
    "stores": spec.STORES,
    "stores.NAME": spec.OWN_STORE,
    "state": spec.STATE,
    "budgets": spec.BUDGETS,
    "server": spec.SERVER,
    "server.pipelines.NAME": spec.DISCONNECT,
}
"""Of each table its spec; those below one that stand in its spec are found there."""
SAID_ELSEWHERE = {
    **dict.fromkeys(("routes.NAME.cache", "routes.NAME.cache.semantic"), "models.NAME.cache"),
    "budgets.organisation": "budgets.user",
}
"""Tables that have the keys of another: the page says them once."""
OPTIONS = {option.name for row in PROVIDERS.values() for option in row.options}


def tables() -> Iterator[tuple[str, Spec]]:
    """Each table that has rows of its own, with what may stand in it."""
    for name, known in NAMED.items():
        yield from below(name, known)


def below(name: str, known: Spec) -> Iterator[tuple[str, Spec]]:
    """A table, and those in it."""
    if name in SAID_ELSEWHERE:
        return
    yield name, known
    for key, inner in known.items():
        if not isinstance(inner, Kind):
            yield from below(f"{name}.{key}", inner)


def defaults() -> Mapping[str, Mapping[str, Any]]:
    """Of each table what its keys are where nothing is said."""
    model = ModelSettings(name="m", provider="openai")
    bounds = Settings()
    limits = bounds.limits
    said_nothing = msgspec.structs.asdict(USUAL_RULES) | msgspec.structs.asdict(CANCELS)
    return {
        "models.NAME": {
            **fields(model),
            **dict.fromkeys(("provider", "model"), REQUIRED),
            "coalesce": model.coalesce is not None,
        },
        "models.NAME.timeouts": fields(model.timeouts),
        "models.NAME.limits": fields(model.limits),
        "models.NAME.breaker": {"enabled": model.breaker is not None, **fields(model.breaker)},
        "models.NAME.cache": fields(CacheRule()),
        "models.NAME.cache.semantic": fields(SemanticRule()),
        "models.NAME.coalesce": fields(CoalesceRule()),
        "embedders.NAME": {"model": REQUIRED},
        "routes.NAME": {
            "models": REQUIRED,
            "by": "order",
            "sticky": False,
            "fallback": True,
            "coalesce": False,
        },
        "routes.NAME.weights": {"MODEL": 1},
        "limits.user": fields(NO_LIMITS),
        "stores": {
            "data": ".orchestra",
            **msgspec.structs.asdict(PostgresSettings(url="")),
            "url": None,
        },
        "stores.NAME": {"class": REQUIRED},
        "state": {**msgspec.structs.asdict(StateSettings()), "url": REQUIRED},
        "budgets": {**fields(Budgets()), "when_state_fails": NO_LIMIT.when_state_fails},
        "budgets.user": fields(NO_LIMIT),
        "server": {
            **fields(bounds),
            "runs_max": limits.runs,
            "deadline_s": limits.deadline_s,
            **said_nothing,
            "image_schemes": [*USUAL_RULES.image_schemes],
        },
        "server.cors": {"max_age_s": USUAL_RULES.cors_max_age_s},
        "server.runs": fields(RunsSettings()),
    }


def fields(value: Any) -> dict[str, Any]:
    """The fields of a value, by name."""
    return {field.name: getattr(value, field.name) for field in attrs.fields(type(value))}


def written(value: object, kind: Kind) -> str:
    """A default as it would stand in the file."""
    if value is REQUIRED:
        return "required"
    if value is None and '"none"' in kind.words:
        return '`"none"`'
    if value is None or (not value and not isinstance(value, bool | int | float)):
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float | int):
        return f"`{int(value):_}`" if value == int(value) else f"`{value}`"
    return "`" + str(value if isinstance(value, list) else f"'{value}'").replace("'", '"') + "`"


def expected() -> dict[tuple[str, str], tuple[str, str]]:
    """Of each table and key its kind in words and its default."""
    known = defaults()
    return {
        (name, key): (kind.words, written(known.get(name, {}).get(key), kind))
        for name, rows in tables()
        for key, kind in rows.items()
        if isinstance(kind, Kind)
    }


def told() -> dict[tuple[str, str], tuple[str, str]]:
    """The same, as the page says it."""
    _, *parts = HEADING.split(PAGE)
    return {
        (name, key): (words, default)
        for name, text in zip(parts[::2], parts[1::2], strict=True)
        for key, words, default, _ in ROW.findall(text)
    }


KINDS = {(name, key): kind for name, rows in tables() for key, kind in rows.items()}


@pytest.mark.parametrize("place", expected(), ids=".".join)
def test_a_key_is_on_the_page_with_its_kind_and_its_default(place: tuple[str, str]) -> None:
    (name, key), (words, default) = place, expected()[place]
    row = f"docs/settings.md, [{name}]: | `{key}` | {words} | {default} | what it is for |"
    assert told().get(place) == (words, default), row


def test_the_page_has_no_other_key() -> None:
    unknown = told().keys() - expected().keys()
    assert not unknown, (
        f"docs/settings.md has rows for {unknown}, which orchestra.toml may not have"
    )
    assert len(ROW.findall(PAGE)) == len(told())  # none stands twice, or outside of a table


def test_every_table_of_the_file_is_on_the_page() -> None:
    assert {name.partition(".")[0] for name, _ in tables()} == {*spec.TABLES}
    headings = {*HEADING.findall(PAGE)}
    assert headings == {name for name, _ in tables()}
    for name in SAID_ELSEWHERE:
        assert f"`[{name}]`" in PAGE


@pytest.mark.parametrize("place", told(), ids=".".join)
def test_a_key_of_the_page_is_one_that_the_file_may_have(place: tuple[str, str]) -> None:
    """Asked of the reader itself, with the example that it gives when a value is wrong."""
    name, key = place
    kind = KINDS[place]
    assert isinstance(kind, Kind)
    text = f"[{name}]\n{key} = {kind.example}\n"
    whole = ("models", "embedders")
    if name.startswith(whole) and name.count(".") > 1:
        text = f'[models.NAME]\nprovider = "openai"\nmodel = "m"\n{text}'
    elif name.startswith(whole) and key in spec.OWN_STORE:
        text += f"class = {spec.CLASS_OF_MODEL.example}\n" * (key != "class")
    elif name.startswith(whole):
        text += 'provider = "openai"\n' * (key != "provider") + 'model = "m"\n' * (key != "model")
    assert "unknown-key" not in codes(text)


def codes(text: str) -> set[str]:
    """What is wrong with a file, as the codes of its problems."""
    try:
        read(text, Path("orchestra.toml"))
    except ConfigError as error:
        return {problem.code for problem in error.problems}
    return set()


def test_a_route_is_by_itself_as_the_page_says() -> None:
    """Its defaults are those of its reader, so they are held against it."""
    models = '[models.a]\nprovider = "extractive"\n[routes.r]\nmodels = ["a"]\n'
    lines = [
        f"{key} = {default.strip('`')}\n"
        for (name, key), (_, default) in told().items()
        if name == "routes.NAME" and key != "models"
    ]
    assert len(lines) == 4
    file = Path("orchestra.toml")
    assert read(models + "".join(lines), file).routes == read(models, file).routes


def test_the_options_of_providers_are_all_named() -> None:
    section = PAGE.partition("## `[models.NAME]`")[2].partition("\n## ")[0]
    assert {*re.findall(r"`(\w+)`", section.partition("Options of some providers")[2])} >= OPTIONS


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_a_configuration_on_the_page_is_right(text: str) -> None:
    read(text, Path("orchestra.toml"))


if __name__ == "__main__":
    for (name, key), (words, default) in expected().items():
        print(f"[{name}]  | `{key}` | {words} | {default} |")
