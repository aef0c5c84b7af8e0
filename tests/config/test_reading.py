"""`orchestra.toml`: what is right is kept, and what is wrong is told with its line and key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.codecs.reasoning_tags import ReasoningTags
from orchestra.config.deployment.deployment import EMBEDDED, Deployment
from orchestra.config.finding import find_file, read_deployment
from orchestra.config.reading import FILE_BYTES_MAX, read, read_file
from orchestra.config.toml.complaints import shown
from orchestra.errors import ConfigError
from orchestra.messages import dotted
from orchestra.policies.health.breaker import BreakerRule
from orchestra.policies.limits.allowance import OwnerLimits
from orchestra.policies.limits.limit import CallLimits
from orchestra.protocols import Timeouts
from orchestra.providers.connections.http1 import located
from orchestra.providers.endpoints import endpoint
from orchestra.providers.known.settings import Prices
from orchestra.values import Capabilities
from tests.config.mistakes import FILE, check_told, problem, problems

SECRET = "sk-proj-Zq3x9Lw7Tb2Vn8Rk5Yd1Hc6M"

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=8)
SECONDS = st.floats(0.1, 1000) | st.integers(1, 100)
COUNTS = st.integers(1, 10**6)
REMOTE = {
    "base_url": st.just("https://host.example/v1"),
    "key_env": st.just("MY_KEY"),
    "headers": st.dictionaries(st.sampled_from(["X-Team", "x-a"]), TEXT, min_size=1),
    "timeouts": st.fixed_dictionaries(
        {"idle_s": SECONDS}, optional={"connect_s": SECONDS, "total_s": SECONDS | st.just("none")}
    ),
    "limits": st.fixed_dictionaries(
        {"concurrency": COUNTS},
        optional={"requests_per_minute": COUNTS, "wait_max_s": SECONDS | st.just(0)},
    ),
    "breaker": st.fixed_dictionaries(
        {"failure_rate": st.floats(0.1, 1)},
        optional={
            "calls_min": COUNTS,
            "open_s": st.floats(0.1, 60),
            "slow_s": SECONDS | st.just("none"),
        },
    ),
    "prices": st.fixed_dictionaries(
        {"input": st.just(0) | st.floats(0.001, 100)}, optional={"cached_input": st.integers(0, 9)}
    ),
    "capabilities": st.fixed_dictionaries({"tools": st.booleans(), "context_tokens": COUNTS}),
}


def model(provider: str, **more: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, Any]]:
    needed = {"provider": st.just(provider), "model": TEXT, **more}
    return st.fixed_dictionaries(needed, optional={k: REMOTE[k] for k in REMOTE.keys() - more})


MODELS = st.one_of(
    model("openai"),
    model("anthropic"),
    model("bedrock", region=st.just("eu-central-1")),
    model("openai-compatible", base_url=REMOTE["base_url"]),
    st.fixed_dictionaries(
        {"class": st.just("local:Llama")},
        optional={key: REMOTE[key] for key in ("limits", "breaker", "prices", "capabilities")}
        | {"options": st.builds(dict)},
    ),
)
CONFIGS = st.fixed_dictionaries(
    {
        "models": st.dictionaries(
            st.sampled_from(["default", "smart", "my model", "a.b"]), MODELS, min_size=1, max_size=3
        )
    },
    optional={
        "embedders": st.fixed_dictionaries(
            {"big": model("openai", model=st.just("big-vectors"), dimensions=st.integers(1, 4096))}
        ),
        "stores": st.fixed_dictionaries(
            {
                "data": st.just("here"),
                "mine": st.builds(
                    dict, st.just({"class": "shelves:Mine"}), options=st.builds(dict)
                ),
            }
        ),
    },
)


def leaves(table: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


def written(config: dict[str, Any]) -> tuple[str, dict[tuple[str, ...], int]]:
    """A configuration as TOML, every table with a header, and the line of each of its keys."""
    lines: list[str] = []
    places = {}

    def write(table: dict[str, Any], path: tuple[str, ...]) -> None:
        if path:
            lines.append(f"[{'.'.join(map(json.dumps, path))}]")
            places[path] = len(lines)
        tables = {key: value for key, value in table.items() if isinstance(value, dict)}
        for key, value in table.items():
            if key not in tables:
                lines.append(f"{json.dumps(key)} = {json.dumps(value)}")
                places[*path, key] = len(lines)
        for key, value in tables.items():
            lines.append("# a comment = [")
            write(value, (*path, key))

    write(config, ())
    return "\n".join(lines), places


def at(config: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for key in path:
        config = config[key]
    return config


def wrong(value: object) -> list[object]:
    """What cannot stand where this stands."""
    if isinstance(value, bool):
        return [3, "yes", []]
    if isinstance(value, int | float) or value == "none":
        return [-1, "many", True, [], {"x": 1}]
    if isinstance(value, dict):
        return [3, "x", True, []]
    return [3, False, [], {"x": 1}, ""]


@given(CONFIGS)
def test_what_is_right_is_kept(config: dict[str, Any]) -> None:
    found = read(written(config)[0], FILE)
    for name, table in config["models"].items():
        made = found.models[name]
        assert made.name == name
        assert made.provider == table.get("provider", "class")
        assert made.model == table.get("model", table.get("class"))
        assert made.key_env == table.get("key_env")
        assert made.limits == CallLimits(**table.get("limits", {}))
        breaker = dict(table.get("breaker", {}))
        if breaker.get("slow_s") == "none":
            breaker["slow_s"] = None
        assert made.breaker == BreakerRule(**breaker)
        assert made.prices == Prices(**table.get("prices", {}))
        assert made.capabilities == Capabilities(**table.get("capabilities", {}))
        assert made.headers == table.get("headers", {})
    assert found.data == (Path("some/here") if "stores" in config else None)
    assert [each.own.target for each in found.stores.values()] == ["shelves:Mine"][
        : len(found.stores)
    ]
    assert len(found.stores) == ("stores" in config)


@given(CONFIGS, st.data())
def test_one_mistake_is_told_with_its_line_and_key(
    config: dict[str, Any], data: st.DataObject
) -> None:
    """Of a right file one key or one value is made wrong."""
    *above, key = data.draw(st.sampled_from(list(leaves(config))))
    path = tuple(above)
    table = at(config, path)
    named = len(path) == 1 and isinstance(table[key], dict)
    free = named or (path and path[-1] == "headers")
    if not free and data.draw(st.booleans(), label="the key"):
        renamed = data.draw(st.sampled_from([f"{key}x", f"{key[:-1]}é", f"_{key}", key.upper()]))
        table[renamed] = table.pop(key)
        key = renamed
    elif path and path[-1] == "headers":
        table[key] = data.draw(st.sampled_from([3, False, "\n", []]))
    else:
        table[key] = data.draw(st.sampled_from(wrong(table[key])))
    text, lines = written(config)
    line = lines[*path, key]
    told = [each for each in problems(text) if each.where == f"{FILE}:{line}"]
    assert any(f"{dotted((*path, key))}: " in each.message for each in told), (text, line)
    assert all(each.fix and each.code for each in told)


@given(CONFIGS, st.data())
def test_every_mistake_is_told(config: dict[str, Any], data: st.DataObject) -> None:
    """Unknown keys in several tables: each is told, in the order of the file."""
    tables = [("models", name) for name in config["models"]] + [("models",)]
    for path in tables[:-1]:
        at(config, path)["nonsense"] = 1
    config["nothing"] = 1
    text, lines = written(config)
    told = [each.where for each in problems(text) if each.code == "unknown-key"]
    expected = [lines[*path, "nonsense"] for path in tables[:-1]] + [lines["nothing",]]
    assert told == [f"{FILE}:{line}" for line in sorted(expected)]


KEYS = ["key", "api_key", "apiKey", "token", "secret", "password", "key_env", "base_url", "model"]
KEYS += ["provider", "region", "aws_secret_access_key", "timeouts", "dimensions", "modle", "extras"]


@given(CONFIGS, st.sampled_from(KEYS), st.sampled_from(["{}", "Bearer {}", "https://{}@host/"]))
def test_a_secret_is_never_told(config: dict[str, Any], key: str, form: str) -> None:
    """Whatever key a secret is written to: it is kept, or the error does not show it."""
    table = next(iter(config["models"].values()))
    table[key] = form.format(SECRET)
    told = ""
    try:
        read(written(config)[0], FILE)
    except ConfigError as error:
        told = f"{error} {error.problems!r}"
    assert SECRET not in told
    assert told or key in ("model", "region")


@pytest.mark.parametrize("key", ["key", "api_key", "token", "secret", "AWS_SECRET_ACCESS_KEY"])
def test_a_literal_key_is_an_error_that_says_so(key: str) -> None:
    text = f'[models.default]\nprovider = "openai"\nmodel = "m"\n{key} = "{SECRET}"\n'
    told = problem(text)
    assert told.where == f"{FILE}:4"
    assert told.code == "secret-in-file"
    assert "a secret must not stand in this file" in told.message
    assert "key_env" in told.fix


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "api-key", "Cookie"])
def test_a_key_in_a_header_is_an_error_too(name: str) -> None:
    text = f"""\
        [models.default]
        provider = "openai"
        model = "m"
        [models.default.headers]
        "{name}" = "Bearer {SECRET}"
        """
    told = problem(dedent(text))
    assert (told.code, told.where) == ("secret-in-file", f"{FILE}:5")


EXAMPLES = [
    ('[models.a]\nprovider = "opnai"\nmodel = "m"', 2, "did you mean 'openai'?"),
    ('[models.a]\nprovider = "google"\nmodel = "m"', 2, "did you mean 'gemini' or 'vertex'?"),
    ('[models.a]\nprovider = "azure-openai"\nmodel = "m"', 2, "did you mean 'azure'?"),
    ('[models.a]\nprovider = "Azure OpenAI"\nmodel = "m"', 2, "did you mean 'azure'?"),
    ('[models.a]\nprovider = "Google_Gemini"\nmodel = "m"', 2, "did you mean 'gemini'?"),
    ('[models.a]\nprovider = "vertex-ai"\nmodel = "m"', 2, "did you mean 'vertex'?"),
    ('[models.a]\nprovider = "AWS"\nmodel = "m"', 2, "'bedrock' or 'bedrock-invoke'?"),
    ('[models.a]\nprovider = "wordllama"', 2, '"wordllama" cannot be a model'),
    ('[models.a]\nprovider = "openai"', 1, "models.a: it has no model"),
    ('[models.a]\nmodel = "m"', 1, "models.a: it has no provider"),
    ('[models.a]\nmodel = "m"\nprovder = "openai"', 3, "did you mean 'provider'?"),
    ('[models.a]\nprovider = "openai-compatible"\nmodel = "m"', 1, "it has no base_url"),
    ('[models.a]\nprovider = "openai"\nmodel = "m"\nlimts = 3', 4, "did you mean 'limits'?"),
    ('[model.a]\nprovider = "openai"', 1, "did you mean 'models'?"),
    ('[models.a]\nprovider = "openai"\nmodel = "m"\nretries = 3', 4, "Policy(retry=Retry("),
    ('[models.a]\nprovider = "openai"\nmodel = "m"\npriority = 3', 4, "one of: model, base_url"),
    ('[models.a]\nprovider = "openai"\nmodel = "m"\nseed = 3', 4, "generate(..., seed=...)"),
    (
        '[models.a]\nprovider = "openai"\nmodel = "m"\nmax_tokens = 3',
        4,
        "it belongs to a call: generate(..., output_tokens_max=...)",
    ),
    (
        '[models.a]\nprovider = "openai"\nmodel = "m"\nbreaker = false',
        4,
        "breaker = { enabled = false }",
    ),
    ("[cache]\nttl_s = 3", 1, "it belongs in the table of a model: models.NAME.cache"),
    ('[models.a]\nprovider = "openai"\nmodel = "m"\nregion = "x"', 4, "an option of bedrock"),
    ('[models.a]\nprovider = "extractive"\nmodel = "m"', 3, "built in, and has no options"),
    ('[models.a]\nprovider = "vertex"\nmodel = "m"\nproject = "a/../b"', 4, "not a word of"),
    (
        '[models.a]\nprovider = "openai"\nmodel = "m"\nbase_url = "host"',
        4,
        '"host" is not an address that begins with http:// or https://',
    ),
    (
        '[models.a]\nprovider = "openai"\nmodel = "m"\ntimeouts.idle_s = 0',
        4,
        "models.a.timeouts.idle_s: 0 is not a number of seconds",
    ),
    ('[models.a]\nprovider = "openai"\nmodel = "m"\ntimeouts.idle_s = nan', 4, "nan is not"),
    ('[models.a]\nprovider = "openai"\nmodel = "m"\ntimeouts.idle_s = inf', 4, "inf is not"),
    ('[models.a]\nprovider = "openai"\nmodel = "m"\nprices.input = nan', 4, "nan is not"),
    (
        '[models.a]\nprovider = "openai"\nmodel = "m"\nkey_env = "K"\nkey_file = "f"',
        5,
        "either in the environment or in a file",
    ),
    ('[embedders.a]\nmodel = "m"', 2, "this file has no valid model"),
    ("[embedders.a]\ndimensions = 3", 1, "it has no model"),
    (
        '[models.m]\nprovider = "openai"\nmodel = "x"\n[embedders.a]\nmodel = "m"\nbase_url = "x"',
        6,
        "write it in the model's table",
    ),
    ('[embedders.a]\nprovider = "anthropic"\nmodel = "m"', 2, "cannot be an embedder"),
    ('[embedders.a]\nprovider = "openai"\nmodel = "gpt-5"', 1, "makes no vectors"),
    ("[models]\na = 3", 2, "3 is not a table"),
    ("models = 3", 1, "models: 3 is not a table"),
    ("[[models]]", 1, "a list is not a table"),
    ("[stores]\nfolder = 'x'", 2, "one of: data"),
    (
        '[server.cors]\norigins = [\n"https://a",\n"https://App.example:443"]',
        4,
        'sends it as "https://app.example"',
    ),
    ('[server.cors]\norigins = ["http://a:80"]', 2, 'write "http://a"'),
    (
        '[server.cors]\norigins = [\n"https://a",\n"https://b/"]',
        4,
        'server.cors.origins.1: "https://b/" does not belong in a list of origins',
    ),
    ("[server.cors]\norigins = []", 2, "a list is not a list of origins"),
    ('[server]\ncors = "*"', 2, 'max_age_s: cors = { origins = ["https://app.example"] }'),
    ("[models.a\n", 1, "it is not TOML"),
    ("a = 1\na = 2", 2, "it is not TOML"),
    ("a = '", 1, "it is not TOML"),
    (f"a = {'[' * 5000}{']' * 5000}", 1, "nested too deeply"),
    (f"[stores]\n[models.a{'.b' * 500}]", 2, "nested too deeply"),
    (f"[server]\ndeadline_s = {'9' * 5000}", 1, "a number with too many digits"),
    (f"[server]\nruns_max = 0x{'9' * 5000}", 2, "a number with too many digits is not a whole"),
    ("[server]\npipelines = 3", 2, "fix: write it as a table: [server.pipelines.NAME]"),
    ("[budgets]\nusers = 3", 2, "fix: write it as a table: [budgets.users.NAME]"),
    ("state = 3", 1, "state: 3 is not a table"),
    ('[limits.users]\n"a b" = 3', 2, 'fix: write it as a table: [limits.users."a b"]'),
    ("[budgets]\nuser.day = 1e-11\nusers.ada.month = 5", 2, "1e-11 dollars are not a whole"),
    ('[models."a\\n\\"b"]\nprovider = "x"', 2, r'models."a\n\"b".provider: '),
    ('[models.a]\nprovider = "x\\ny"', 2, r'there is no provider "x\ny"'),
]


@pytest.mark.parametrize(("text", "line", "says"), EXAMPLES)
def test_a_mistake_is_explained(text: str, line: int, says: str) -> None:
    check_told(text, line, says)


MODEL = '[models.a]\nprovider = "openai"\nmodel = "m"\n'
MILLION = "for a million tokens"
OPTIONS = "are options of `orchestra keys create` and `orchestra keys change`"


@pytest.mark.parametrize(
    ("text", "line", "fix"),
    [
        (f'{MODEL}api_base = "http://a"', 4, "write base_url"),
        (f"{MODEL}rpm = 5", 4, "write limits.requests_per_minute"),
        (f"{MODEL}limits = {{ rpm = 5 }}", 4, "write requests_per_minute"),
        (f"{MODEL}input_cost_per_token = 1e-6", 4, "write prices.input, for a million tokens"),
        (f"{MODEL}prices = {{ input_cost_per_token = 1 }}", 4, "write input, for a million tokens"),
        (f"{MODEL}prices.output_cost_per_token = 1", 4, "write output, for a million tokens"),
        (f"{MODEL}prices.cache_read_input_token_cost = 1", 4, f"write cached_input, {MILLION}"),
        (
            f"{MODEL}prices.cache_creation_input_token_cost = 1",
            4,
            f"write cache_write_input, {MILLION}",
        ),
        ('[redis]\nurl = "redis://redis"', 1, "write state"),
        ("[limits.keys.abc]\nrequests_per_minute = 5", 1, f"those of an API key {OPTIONS}"),
        ("[budgets.keys.abc]\nday = 5", 1, f"those of an API key {OPTIONS}"),
        ("[budgets]\nteam = {}", 2, "write organisation"),
        ("[budgets.user]\nmax_budget = 5", 2, "write month"),
    ],
)
def test_a_key_of_another_tool_is_named_as_it_is_here(text: str, line: int, fix: str) -> None:
    told = problem(text)
    assert (told.code, told.where, told.fix) == ("unknown-key", f"{FILE}:{line}", fix)


@pytest.mark.parametrize(
    ("text", "line", "message", "fix"),
    [
        (
            f"{MODEL}prices = {{ input = 0.00000075 }}",
            4,
            "models.a.prices.input: 7.5e-07 is a price for one token, and prices are for a million "
            "tokens",
            "input = 0.75",
        ),
        (
            f'{MODEL}base_url = "http://gpu:8000/v1/chat/completions/"',
            4,
            "models.a.base_url: it ends in /chat/completions, which orchestra appends to it",
            "leave /chat/completions out",
        ),
        (
            f'{MODEL}[routes.r]\nmodels = ["a"]\nby = "wieght"',
            6,
            'routes.r.by: "wieght" is not one of "order", "weight", "cost", "latency"',
            'by = "weight"',
        ),
        (
            '[models.a]\nprovider = "OpenAI"\nmodel = "m"',
            2,
            'models.a.provider: there is no provider "OpenAI"',
            "did you mean 'openai'?",
        ),
        (
            "[server]\nmetrics = True",
            2,
            "it is not TOML: Invalid value, in column 11",
            'write texts in straight quotes, as in "text", and true and false in small letters; '
            "see https://toml.io",
        ),
        (
            "model_list:\n  - model_name: chat",
            1,
            "it is not TOML: Expected '=' after a key in a key/value pair, in column 11",
            "write KEY = VALUE, or [TABLE], on a line of its own; see https://toml.io",
        ),
        (
            "[server",
            1,
            "it is not TOML: Expected ']' at the end of a table declaration (at end of document)",
            "see https://toml.io",
        ),
    ],
)
def test_a_mistake_is_answered_with_what_to_write(
    text: str, line: int, message: str, fix: str
) -> None:
    told = problem(text)
    assert (told.where, told.message, told.fix) == (f"{FILE}:{line}", message, fix)


@pytest.mark.parametrize("price", ["0", "0.001", "0.75"])
def test_a_price_for_a_million_tokens_is_not_taken_for_one_of_a_token(price: str) -> None:
    assert read(f"{MODEL}prices = {{ input = {price} }}", FILE).models["a"].prices.input == float(
        price
    )


@given(st.text("[]:.0129ahx%/", max_size=12))
@example("[::1/v1")
@example("h:99999")
@example("h:0")
def test_an_address_of_the_file_can_be_asked_or_is_told(rest: str) -> None:
    text = f'{MODEL}base_url = "http://{rest}"\n'
    try:
        found = read(text, FILE).models["a"].base_url
    except ConfigError as error:
        (told,) = error.problems
        assert told.where == f"{FILE}:4"
        assert told.fix
    else:
        assert found is not None
        with suppress(UnicodeError):  # of a host that is no name; whoever asks it is told
            assert located(found)[0].host


@given(st.lists(st.sampled_from(["gpt-5", "4", "mini", "v1"]), min_size=2, max_size=4))
def test_a_name_with_dots_and_no_quotes_is_told_with_its_quotes(parts: list[str]) -> None:
    """It is a table in a table, which no message of keys that are missing would tell."""
    name = ".".join(parts)
    table = 'provider = "openai"\nmodel = "m"\n'
    told = problem(f"\n[models.{name}]\n{table}")
    assert (told.where, told.fix) == (f"{FILE}:2", f'write [models."{name}"]')
    assert read(f'[models."{name}"]\n{table}', FILE).models[name].model == "m"


def test_a_name_with_a_dot_beside_the_one_before_it_is_told_too() -> None:
    text = f'{MODEL}[models.a.1]\nprovider = "openai"\nmodel = "n"\nextras.provider.order = ["x"]'
    told = problem(text)
    assert (told.where, told.fix) == (f"{FILE}:4", 'write [models."a.1"]')
    assert read(f'{MODEL}extras.provider = {{ order = ["x"] }}', FILE).models["a"].extras


HEADERS = [
    ("Content-Length = '5'", "leave it out"),
    ("transfer-encoding = 'chunked'", "leave it out"),
    ("X-N = 3", "3 is not a text of printable ASCII"),
    ("X-N = 'é'", "is not a text"),
    ("'X N' = 'a'", "not a valid name"),
    ("X-A.b = 'a'", "a table is not a text"),
]


@pytest.mark.parametrize(("header", "says"), HEADERS)
def test_a_header_that_cannot_be_sent_is_told_by_its_name_and_line(header: str, says: str) -> None:
    told = problem(f"{MODEL}[models.a.headers]\nX-Team = 'a'\n{header}\n")
    assert told.where == f"{FILE}:6"
    assert says in str(told)
    told = problem(f"{MODEL}[models.a.headers]\nX-Team = 'a'\nx-team = 'b'\n")
    assert (told.where, told.fix) == (f"{FILE}:6", "leave one of them out")


def test_the_first_model_is_the_default_and_the_default_all_the_usual_ones() -> None:
    found = read('[models.gpt]\nprovider = "openai"\nmodel = "m"', FILE)
    assert list(found.models) == ["default", "fast", "smart", "gpt"]
    assert len({id(each) for each in found.models.values()}) == 1
    text = '[models.a]\nprovider = "extractive"\n[models.default]\nprovider = "openai"\nmodel = "m"'
    found = read(text, FILE)
    assert found.models["smart"] is found.models["default"]
    assert found.models["a"].provider == "extractive"


def test_without_models_they_are_those_of_the_environment() -> None:
    otherwise = Deployment(models={"x": EMBEDDED.models["default"]}, embedders={})
    found = read("[stores]\ndata = 'd'", Path("orchestra.toml"), otherwise)
    assert found.models == otherwise.models
    assert found.embedders == EMBEDDED.embedders
    assert found.data == Path("d")


def test_files_are_seen_from_the_configurations_folder() -> None:
    text = (
        '[models.a]\nprovider = "openai"\nmodel = "m"\nkey_file = "keys/a"\n[stores]\ndata = "/d"'
    )
    found = read(text, FILE)
    assert found.models["a"].key_file == Path("some/keys/a")
    assert found.data == Path("/d")


def test_mistakes_are_told_in_the_order_of_the_file() -> None:
    text = "[stores]\nx = 1\n[embedders]\na = 2\n[models]\na = 3\n[nothing]\n"
    assert [each.where.rpartition(":")[2] for each in problems(text)] == ["2", "4", "6", "7"]


SHOWN = [
    ("short", '"short"'),
    ("x" * 70, f'"{"x" * 60}…"'),
    (SECRET, "a text (not shown)"),
    (f"Bearer {SECRET}", "a text (not shown)"),
    ("user:word@host", "a text (not shown)"),
    ("http://host/v1?api-key=word", "a text (not shown)"),
    (True, "true"),
    (1.5, "1.5"),
    ({}, "a table"),
    ([], "a list"),
]


@pytest.mark.parametrize(("value", "text"), SHOWN)
def test_a_value_is_shown_as_it_stands_in_the_file(value: object, text: str) -> None:
    assert shown(value) == text
    assert str(value) not in shown(value, "api_key") or isinstance(value, bool)


def test_no_limit_is_written_as_none() -> None:
    text = (
        '[models.a]\nprovider = "openai"\nmodel = "m"\ntimeouts = { total_s = "none", idle_s = 5 }'
    )
    assert read(text, FILE).models["a"].timeouts == Timeouts(total_s=None, idle_s=5)


def test_a_provider_is_told_to_keep_nothing_unless_that_is_switched_on() -> None:
    text = '[models.a]\nprovider = "anthropic"\nmodel = "m"\n'
    assert not read(text, FILE).models["a"].prompt_cache
    assert read(text + "prompt_cache = true\n", FILE).models["a"].prompt_cache


def test_the_tags_of_reasoning_are_those_that_the_file_names() -> None:
    text = '[models.a]\nprovider = "openai-compatible"\nmodel = "m"\nbase_url = "http://gpu/v1"\n'
    assert endpoint(read(text, FILE).models["a"], {}).reasoning_tags is None
    text += 'reasoning_tags = ["", "</think>"]\n'
    made = endpoint(read(text, FILE).models["a"], {})
    assert made.reasoning_tags == ReasoningTags("", "</think>")
    for wrong in ('["<think>"]', '["<think>", ""]', '"<think>"'):
        with pytest.raises(ConfigError, match=r"reasoning_tags.*a list of two texts"):
            read(text.replace('["", "</think>"]', wrong), FILE)


def test_a_model_has_a_breaker_unless_it_is_switched_off() -> None:
    text = '[models.a]\nprovider = "openai"\nmodel = "m"\n'
    assert read(text, FILE).models["a"].breaker == BreakerRule()
    text += "limits = { wait_max_s = 'none' }\nbreaker = { enabled = true, open_s = 1 }\n"
    made = read(text, FILE).models["a"]
    assert made.breaker == BreakerRule(open_s=1)
    assert made.limits == CallLimits(wait_max_s=None)
    assert read(text.replace("true", "false"), FILE).models["a"].breaker is None


@pytest.mark.parametrize(
    ("said", "key", "needed"),
    [
        ("open_s = 120", "open_s", 120),  # it would be cut to 60
        ("open_s = 9, open_max_s = 2", "open_max_s", 9),
        ("open_max_s = 2", "open_max_s", 5),
    ],
)
def test_the_first_pause_of_a_breaker_is_not_cut_to_the_longest(
    said: str, key: str, needed: int
) -> None:
    for provider in ('provider = "openai"\nmodel = "m"', 'class = "local:Llama"'):
        told = problem(f"[models.a]\n{provider}\nbreaker = {{ {said} }}")
        assert f"models.a.breaker.{key}: the first pause is {needed} s" in str(told)
        assert told.fix == f"open_max_s = {needed}, or a shorter open_s"


def test_what_adapts_needs_something_to_adapt() -> None:
    text = '[models.a]\nprovider = "openai"\nmodel = "m"\n'
    told = problem(text + "limits = { adaptive = true }")
    assert str(told) == (
        f"{FILE}:4: models.a.limits.adaptive: it has nothing to adapt: there is no concurrency "
        "[missing-key]\n    fix: add concurrency = 20"
    )
    right = read(text + "limits = { adaptive = true, concurrency = 3 }", FILE)
    assert right.models["a"].limits == CallLimits(adaptive=True, concurrency=3)


def test_what_is_shared_needs_something_to_share_and_a_state_is_for_what_is_shared() -> None:
    text = '[models.a]\nprovider = "openai"\nmodel = "m"\n'
    for said, message, fix in (
        (
            "shared = true",
            "it has nothing to share: there is no limit",
            "requests_per_minute = 500",
        ),
        ('when_state_fails = "closed"', "only shared limits", "add shared = true"),
    ):
        told = problem(f"{text}limits = {{ {said} }}")
        assert message in told.message
        assert fix in told.fix
    text += 'limits = { shared = true, concurrency = 3, when_state_fails = "closed" }'
    limits = CallLimits(shared=True, concurrency=3, when_state_fails="closed")
    assert read(text, FILE).models["a"].limits == limits


def test_a_share_of_a_minute_needs_a_limit_per_minute() -> None:
    text = '[models.a]\nprovider = "openai"\nmodel = "m"\n'
    told = problem(text + "limits = { burst_share = 0.5, concurrency = 3 }")
    assert "models.a.limits.burst_share: it is a share of limits per minute" in str(told)
    for table in ("[models.a.limits]\ntokens_per_minute = 1_000", "[limits.user]"):
        told = problem(f"{text}{table}\nburst_share = 1")  # with no rest, one token a minute
        assert "burst_share: 1 is not a share, over 0 and up to 0.9" in str(told)
    text += "limits = { burst_share = 0.5, tokens_per_minute = 1_000 }"
    text += "\n[limits.user]\nburst_share = 0.9\n[limits.users.ada]\nrequests_per_minute = 9"
    read_all = read(text, FILE)
    assert read_all.models["a"].limits == CallLimits(tokens_per_minute=1_000, burst_share=0.5)
    assert read_all.limits is not None
    ada = OwnerLimits(requests_per_minute=9, burst_share=0.9)
    assert read_all.limits.users == {"ada": ada}


def test_an_embedder_is_a_model_of_the_file_or_has_its_own() -> None:
    text = """\
        [models.vectors]
        provider = "openai"
        model = "text-embedding-3-small"
        [embedders.default]
        model = "vectors"
        dimensions = 512
        [embedders.other]
        provider = "ollama"
        model = "nomic-embed-text"
        [embedders.local]
        provider = "wordllama"
        """
    found = read(dedent(text), FILE)
    assert found.embedders["default"].model is found.models["vectors"]
    assert found.embedders["default"].dimensions == 512
    assert found.embedders["other"].model.provider == "ollama"
    assert found.embedders["local"].origin == f"{FILE}:10"


def test_the_file_is_looked_for_where_it_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_file(None, {}) is None
    (tmp_path / "orchestra.toml").touch()
    assert find_file(None, {}) == Path("orchestra.toml")
    assert find_file(None, {"ORCHESTRA_CONFIG": "b.toml"}) == Path("b.toml")
    assert find_file(Path("a.toml"), {"ORCHESTRA_CONFIG": "b.toml"}) == Path("a.toml")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "toml: there is no such file [unreadable]\n    fix: write it, or name another"),
        (b"a = 1\n\xff", ":2: it is not UTF-8"),
        (b"#" * (FILE_BYTES_MAX + 1), "toml: it has over"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(
    tmp_path: Path, data: bytes | None, says: str
) -> None:
    file = tmp_path / "x.toml"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_file(file)
    assert says in str(caught.value)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(b"\xef\xbb\xbf[stores]\ndata = 'd'")
    assert read_file(file).data == tmp_path / "d"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it cannot be read: Is a directory"):
        read_file(tmp_path)


def test_a_link_that_leads_nowhere_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The built-in model would answer in place of those in the file that is away."""
    monkeypatch.chdir(tmp_path)
    Path("orchestra.toml").symlink_to("away.toml")
    with pytest.raises(ConfigError, match=r"orchestra\.toml: there is no such file"):
        read_deployment(environ={})


def test_a_name_that_no_file_has_is_told() -> None:
    with pytest.raises(ConfigError, match="it cannot be read: embedded null"):
        read_file(Path("a\0b"))
