"""`[routes.NAME]`: what is right is kept and bound, and what is wrong told with line and key."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.answers import Completion
from orchestra.config import LocalBindings, default_bindings
from orchestra.config.deployment.environment import from_environment
from orchestra.config.reading import read
from orchestra.config.tables.routes import ERRORS
from orchestra.errors import (
    AuthenticationError,
    BindingError,
    CapabilityError,
    ModelConnectionError,
    ModelError,
    ModelsFailedError,
    OverloadedError,
    RateLimitError,
)
from orchestra.policies.requests.needs import Needs, lacks
from orchestra.policies.routing import FALLBACK, ByCost, ByLatency, ByOrder, ByWeight
from orchestra.protocols import Model
from orchestra.providers.routing import RoutedModel
from orchestra.providers.unready import UnreadyModel
from orchestra.values import ChatRequest, EmbedRequest, Message, ModelEvent
from tests.config.layers import unlimited
from tests.config.mistakes import FILE, problem, problems

MODELS = """\
[models.gpt]
provider = "openai"
model = "gpt-5.4-mini"
prices = { input = 1, output = 8 }
[models.claude]
provider = "anthropic"
model = "claude-haiku-4-5"
[models.quotes]
provider = "extractive"
[models.small]
provider = "openai"
model = "text-embedding-3-small"
prices = { input = 0.02 }
[models.large]
provider = "openai"
model = "text-embedding-3-large"
"""
LINES = MODELS.count("\n")
NAMES = ("gpt", "claude", "quotes")
BY = {
    "order": ByOrder(),
    "weight": ByWeight(),
    "latency": ByLatency(),
}


@st.composite
def routes(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    found: dict[str, Any] = {"models": names}
    if draw(st.booleans()):
        found["by"] = draw(st.sampled_from([*BY]))
    if found.get("by") == "weight":
        found["weights"] = draw(
            st.dictionaries(st.sampled_from(names), st.integers(1, 9) | st.floats(0.5, 9))
        )
    if found.get("by") in ("weight", "latency"):
        found["sticky"] = draw(st.booleans())
    if draw(st.booleans()):
        found["fallback"] = draw(
            st.booleans() | st.lists(st.sampled_from([*ERRORS]), min_size=1, max_size=3)
        )
    return found


def written(table: dict[str, Any], name: str = "r") -> tuple[str, dict[str, int]]:
    """A route as TOML behind the models, and the line of each of its keys."""
    lines = [f"[routes.{name}]"]
    places = {}
    for key, value in table.items():
        if isinstance(value, dict):
            pairs = (f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items())
            lines.append(f"{key} = {{ {', '.join(pairs)} }}")
        else:
            lines.append(f"{key} = {json.dumps(value)}")
        places[key] = LINES + len(lines)
    return MODELS + "\n".join(lines), places


@given(routes())
def test_what_is_right_is_kept(table: dict[str, Any]) -> None:
    (route,) = read(written(table)[0], FILE).routes.values()
    assert route.name == "r"
    assert list(route.models) == table["models"]
    assert type(route.by) is type(BY[table.get("by", "order")])
    assert getattr(route.by, "sticky", False) == table.get("sticky", False)
    assert route.weights == table.get("weights", {})
    said = table.get("fallback", True)
    if isinstance(said, bool):
        assert route.falls_back_on == (FALLBACK if said else ())
    else:
        assert [kind.__name__ for kind in route.falls_back_on] == said
    assert route.origin == f"{FILE}:{LINES + 1}"


WRONG: dict[str, list[Any]] = {
    "models": [3, "gpt", [], ["gpt", 3], [""], ["gptt"], ["r"], ["gpt", "gpt"], ["gpt"] * 33],
    "by": ["speed", "Order", 3, True, ["order"]],
    "sticky": ["yes", 1, []],
    "fallback": ["yes", 1, [], ["RateLimit"], ["ValueError"], [3]],
    "weights": [3, [], "gpt", {"gptt": 1}, {"gpt": 0}, {"gpt": -1}, {"gpt": "much"}],
}


@given(routes(), st.data())
def test_one_mistake_is_told_with_its_line_and_key(
    table: dict[str, Any], data: st.DataObject
) -> None:
    """A value of each key made wrong, or a key that does not exist."""
    key = data.draw(st.sampled_from([*WRONG, "fallbacks", "models_"]))
    table[key] = data.draw(st.sampled_from(WRONG.get(key, [["gpt"]])))
    text, places = written(table)
    found = problems(text)
    told = [each for each in found if each.where == f"{FILE}:{places[key]}"]
    assert any(f"routes.r.{key}" in each.message for each in told), (text, found)
    assert all(each.fix and each.code for each in found)


EXAMPLES = [
    ("", 1, "it has no models"),
    ('models = ["gptt"]', 2, 'routes.r.models.0: there is no model "gptt" [unknown-model]'),
    ('models = ["gptt"]', 2, "did you mean 'gpt'?"),
    ('models = ["gpt", "fast"]', 2, 'routes.r.models.1: there is no model "fast"'),
    ('models = ["r", "gpt"]', 2, "a route cannot be one of its own models"),
    ('models = ["gpt"]\n[routes.s]\nmodels = ["r"]', 4, '"r" is a route, and a route consists'),
    ('models = ["gpt", "gpt"]', 2, '"gpt" is listed twice'),
    ('models = ["gpt"]\nfallback = ["RateLimit"]', 3, "did you mean 'RateLimitError'?"),
    ('models = ["gpt"]\nby = "latecy"', 3, '"latecy" is not one of "order", "weight"'),
    ('models = ["gpt"]\nby = "weight"\nweights = 3', 4, "routes.r.weights: 3 is not a table"),
    ('models = ["gpt"]\nweights = { gpt = 2 }', 3, 'weights count only with by = "weight"'),
    ('models = ["gpt"]\nby = "weight"\nweights = { gpd = 2 }', 4, "did you mean 'gpt'?"),
    ('models = []\nby = "weight"\nweights = { gpt = 2 }', 2, "routes.r.models"),
    ('models = ["gpt"]\nsticky = true', 3, "by order, every conversation has the same models"),
    (
        'models = ["gpt", "claude"]\nby = "cost"',
        2,
        'models.1: "claude" has no prices.input and prices.output',
    ),
    ('models = ["large"]\nby = "cost"', 2, '"large" has no prices.input, which by'),
    ('models = ["small", "large"]', 2, "vectors of different models cannot be compared"),
    ('models = ["gpt", "small"]', 2, '"small" makes vectors, but "gpt" does not'),
    ('modles = ["gpt"]\nmodels = ["gpt"]', 2, "did you mean 'models'?"),
]


@pytest.mark.parametrize(("text", "line", "says"), EXAMPLES)
def test_a_mistake_is_explained(text: str, line: int, says: str) -> None:
    told = problem(f"{MODELS}[routes.r]\n{text}")
    assert told.where == f"{FILE}:{LINES + line}"
    assert says in str(told)


def test_other_mistakes_are_explained_too() -> None:
    for text, line, says in [
        (f"{MODELS}[routes]\nr = 3", LINES + 2, "routes.r: 3 is not a table"),
        (
            f'{MODELS}[routes.gpt]\nmodels = ["claude"]',
            LINES + 1,
            'this file also has a model "gpt"',
        ),
        ("routes = 3", 1, "write it as a table: [routes.NAME]"),
        ('[routes.r]\nmodels = ["x"]', 2, "one of: default, fast, smart"),
        ('[models.a]\nprovider = "x"\n[routes.r]\nmodels = ["a"]', 2, "there is no provider"),
        ('[models.a]\nprovider = "x"\n[routes.a]\nmodels = ["b"]', 4, "add [models.NAME]"),
        ('[models.abc]\nprovider = "x"\n[routes.a]\nmodels = ["abd"]', 4, "did you mean 'abc'?"),
    ]:
        told = problems(text)
        assert any(each.where == f"{FILE}:{line}" and says in str(each) for each in told), told
    assert len(problems('[models.a]\nprovider = "x"\n[routes.r]\nmodels = ["a"]')) == 1


def test_what_is_free_or_embeds_has_the_prices_that_it_needs() -> None:
    text = f'{MODELS}[routes.r]\nmodels = ["gpt", "quotes"]\nby = "cost"\n'
    text += '[routes.v]\nmodels = ["small"]\nby = "cost"'
    found = read(text, FILE).routes
    assert found["r"].by == found["v"].by == ByCost()


def test_errors_are_named_as_they_are_raised() -> None:
    assert ERRORS["RateLimitError"] is RateLimitError
    assert ERRORS["ModelError"] is ModelError
    assert "OutputError" not in ERRORS
    assert set(FALLBACK) < set(ERRORS.values())


def test_a_route_may_have_a_usual_name() -> None:
    """Then it is that; and what is `default` is all the usual ones that have no name of their own."""
    found = read(f'{MODELS}[routes.smart]\nmodels = ["gpt", "claude"]', FILE)
    assert list(found.models)[:2] == ["default", "fast"]
    assert "smart" not in found.models
    assert list(found.routes) == ["smart"]
    text = f'{MODELS}[models.fast]\nprovider = "extractive"\n[routes.default]\nmodels = ["gpt"]'
    found = read(text, FILE)
    assert "default" not in found.models
    assert found.models["fast"].provider == "extractive"
    assert found.routes["smart"] is found.routes["default"]
    assert list(found.routes) == ["default", "smart"]


def test_a_route_may_be_over_models_of_the_environment() -> None:
    there = from_environment({"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"})
    text = '[routes.default]\nmodels = ["openai", "anthropic"]'
    found = read(text, FILE, there)
    assert list(found.routes) == ["default"]
    assert "default" not in found.models
    assert found.routes["default"].models["openai"] is there.models["openai"]
    found = read('[routes.default]\nmodels = ["default", "anthropic"]', FILE, there)
    assert found.routes["default"].models["default"] is there.models["default"]


ROUTES = f"""\
{MODELS}
[routes.default]
models = ["gpt", "claude", "quotes"]
by = "weight"
weights = {{ gpt = 3 }}
[routes.vectors]
models = ["small"]
"""
KEYS = {"OPENAI_API_KEY": "a", "ANTHROPIC_API_KEY": "b"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(ROUTES)
    return path


@pytest.fixture
def bound(file: Path) -> Iterator[LocalBindings]:
    with default_bindings(file.parent, config=file, environ=KEYS) as bindings:
        yield bindings


def test_a_route_is_bound_as_a_model(bound: LocalBindings) -> None:
    names = bound.names("model")
    assert {"default", "fast", "smart", "vectors", "gpt"} <= set(names)
    assert len(set(names)) == len(names)
    assert bound.model("default") is bound.model("fast") is bound.model("smart")
    assert bound.model("default") is not bound.model("vectors")
    routed = unlimited(bound.model("default"))
    assert isinstance(routed, RoutedModel)
    gpt, claude, quotes = routed.route.candidates
    assert (gpt.weight, claude.weight) == (3, 1)
    assert (gpt.input_price, gpt.output_price) == (1, 8)
    assert claude.input_price is None
    assert quotes.price(Needs()) == 0
    assert gpt.capabilities == bound.model("gpt").capabilities
    assert lacks(Needs(tools=True), quotes.capabilities) == ("no tools",)
    assert routed.capabilities.tools is True
    assert routed._desk._models["gpt"] is unlimited(bound.model("gpt"))


def test_a_route_is_an_error_when_it_is_asked_for_and_has_no_key_at_all(file: Path) -> None:
    with default_bindings(file.parent, config=file, environ={}) as bindings:
        with pytest.raises(BindingError, match=r"'small' .* has no key: set OPENAI_API_KEY"):
            bindings.model("vectors")
        with pytest.raises(BindingError, match="did you mean 'vectors'"):
            bindings.model("vectrs")


KEYLESS = """\
[models.first]
provider = "openai"
model = "m"
key_file = "{folder}/key"
[models.second]
provider = "azure"
model = "n"
deployment = "d"
[models.quotes]
provider = "extractive"
[routes.r]
models = ["first", "second", "quotes"]
[routes.picky]
models = ["first", "quotes"]
fallback = ["RateLimitError"]
[routes.whole]
models = ["first", "broken"]
[models.broken]
provider = "openai-compatible"
model = "b"
base_url = "http://127.0.0.1:1"
timeouts = {{ connect_s = 1 }}
"""
QUESTION = ChatRequest((Message("user", "why?"),))


async def streamed(model: Model) -> Completion:
    events: list[ModelEvent] = []
    async with model.stream(QUESTION) as reply:
        while batch := await reply.receive():
            events += batch
    return Completion.of(events)


@pytest.fixture
def keyless(tmp_path: Path) -> Iterator[LocalBindings]:
    file = tmp_path / "c.toml"
    file.write_text(KEYLESS.format(folder=tmp_path))
    with default_bindings(tmp_path, config=file, environ={}) as bindings:
        yield bindings


@pytest.mark.parametrize("ask", [streamed, lambda model: model.complete(QUESTION)])
def test_a_model_whose_key_or_address_is_missing_is_left_as_one_whose_key_is_refused(
    keyless: LocalBindings, ask: Callable[[Model], Awaitable[Completion]]
) -> None:
    assert "nothing to answer from" in trio.run(ask, keyless.model("r")).text
    with pytest.raises(AuthenticationError, match=r"model 'first' .* has no key: file"):
        trio.run(ask, keyless.model("picky"))
    with pytest.raises(ModelsFailedError) as caught:
        trio.run(ask, keyless.model("whole"))
    first, broken = caught.value.errors.values()
    assert isinstance(first, AuthenticationError)
    assert first.name == "first"
    assert isinstance(broken, ModelConnectionError)
    assert "key does not exist; write the key into it" in str(caught.value)
    with pytest.raises(BindingError, match="has no key"):
        keyless.model("first")


def test_a_key_that_comes_later_is_used_from_then_on(
    keyless: LocalBindings, tmp_path: Path
) -> None:
    """As without a route: a sidecar may write the file after the start."""
    route = unlimited(keyless.model("whole"))
    assert isinstance(route, RoutedModel)
    first = route._desk._models["first"]
    assert isinstance(first, UnreadyModel)
    with pytest.raises(AuthenticationError, match="has no key"):
        trio.run(first.embed, EmbedRequest(("a",)))
    (tmp_path / "key").write_text("k")
    assert first.capabilities == keyless.model("first").capabilities
    assert first._made() is unlimited(keyless.model("first"))


def test_the_errors_to_fall_back_on_are_chosen_by_name() -> None:
    text = """\
        [models.a]
        provider = "extractive"
        [models.b]
        provider = "extractive"
        [routes.r]
        models = ["a", "b"]
        fallback = ["RateLimitError", "OverloadedError", "CapabilityError"]
        """
    found = read(dedent(text), FILE).routes["r"]
    assert found.falls_back_on == (RateLimitError, OverloadedError, CapabilityError)
