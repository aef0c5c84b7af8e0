"""The OpenAPI document: made from what is served, whole, and no more than the caller may know."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from enum import Enum
from functools import partial
from typing import Any, TypedDict, get_args

import attrs
import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from orchestra.access.keyring import Keyring
from orchestra.access.wanted import NewKey
from orchestra.accounts import Usage
from orchestra.documents import Document
from orchestra.engine.engine import open_engine
from orchestra.errors import BudgetExceededError, InputError, LimitReachedError
from orchestra.event_lines import encode
from orchestra.events import Event, RunFailed
from orchestra.graph.pipelines import Pipeline, pipeline
from orchestra.graph.steps import step
from orchestra.observe.counting import Counting
from orchestra.observe.metrics import Metrics
from orchestra.policies.limits.allowance import CallerRules
from orchestra.policies.limits.callers import CallerLimits
from orchestra.policies.money.budget import Budgets
from orchestra.policies.money.purse import Purse
from orchestra.protocols import Stream
from orchestra.server.app import create_app, table
from orchestra.server.front.layers import OPEN, Admission
from orchestra.server.front.routes import Route
from orchestra.server.metrics import metrics_routes
from orchestra.server.models.paths import shaped_at
from orchestra.server.openapi.description import document
from orchestra.server.openapi.events import event_schemas
from orchestra.server.openapi.openai import SCHEMAS as OPENAI_SCHEMAS
from orchestra.server.openapi.operations import OPERATIONS
from orchestra.server.openapi.routes import PAGE, page, with_documents
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.runs.pipelines import Runs
from orchestra.server.runs.problems import KINDS, failed_run
from orchestra.server.runs.registries import registry_beside
from orchestra.server.settings import Settings
from orchestra.server.websocket import Sockets
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.world import World
from orchestra.values import Json
from tests.server.served import PIPELINES
from tests.server.wire import Reply, open_house


class Tone(Enum):
    DRY = "dry"
    KIND = "kind"


@attrs.frozen
class Section:
    """A part of something."""

    title: str
    inside: list[Section] = attrs.field(factory=list)


@step
def put(sections: list[Section], tone: Tone, file: Document | None, top: int) -> str:
    return ""


@pipeline
def rich(
    sections: list[Section], tone: Tone = Tone.DRY, file: Document | None = None, top: int = 3
) -> str:
    """Put it together.

    In the `tone` that is asked for.
    """
    return put(sections, tone, file, top)


@step
async def outlined(top: int) -> AsyncIterator[Section]:
    """Nothing."""
    yield Section("one")


@pipeline
def outline(top: int = 3) -> Stream[Section]:
    """The parts of it."""
    return outlined(top)


@pipeline
def anything(top: int = 3):  # type: ignore[no-untyped-def]  # noqa: ANN201 - nobody says what it gives
    """Whatever it is."""
    return outlined(top)


Link = TypedDict("Link", {"$ref": str})


@step
def linked(top: int) -> Link:
    return {"$ref": "#"}


@pipeline
def link(top: int = 3) -> Link:
    """Where it is."""
    return linked(top)


@step
def paired(top: int) -> tuple[int, str]:
    return top, ""


@pipeline
def pair(top: int = 3) -> tuple[int, str]:
    """Both of it."""
    return paired(top)


@step
def chosen(shown: dict[str, bool]) -> int:
    return len(shown)


@pipeline
def choose(shown: dict[str, bool] = {"items": False}) -> int:  # noqa: B006
    """What is shown."""
    return chosen(shown)


SERVED: dict[str, Pipeline[..., Any]] = {
    "count": PIPELINES["count"],
    "a b": rich,
    "outline": outline,
    "anything": anything,
}


def routes() -> list[Route]:
    """All that a server has."""

    async def main() -> list[Route]:
        async with open_engine(World()) as engine:
            settings = Settings()
            runs = Runs(engine, SERVED, settings, registry_beside(engine, settings))
            counted = metrics_routes(Counting(Metrics({})))
            sockets = partial(Sockets, runs, (), frozenset(), trio.Event())
            return [*table(runs, SERVED, sockets), *counted]

    return with_documents(trio.run(main), SERVED, Settings(), OPEN)


def documented(pipelines: Mapping[str, Pipeline[..., Any]] = SERVED, **options: Any) -> Json:
    return document(routes(), pipelines, Settings(), **options)


def walk(value: object) -> Iterator[dict[str, Any]]:
    """Every object in it."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value:  # type: ignore[attr-defined]
        if isinstance(each, dict | list):
            yield from walk(each)


def operations(found: Json) -> dict[tuple[str, str], Json]:
    return {(p, m): each for p, methods in found["paths"].items() for m, each in methods.items()}


def looked_up(found: Json, reference: str) -> Any:
    at: Any = found
    for part in reference.removeprefix("#/").split("/"):
        at = at[part]
    return at


# --- the document ------------------------------------------------------------------------------


def test_every_route_is_described_and_nothing_else() -> None:
    asked = {(route.name, method) for route in routes() for method in route.methods or ("GET",)}
    bare, unused = asked - {*OPERATIONS}, {*OPERATIONS} - asked
    assert not bare, f"describe these routes in OPERATIONS of orchestra/server/openapi: {bare}"
    assert not unused, f"OPERATIONS of orchestra/server/openapi describes no route: {unused}"


def test_every_reference_leads_somewhere_and_no_operation_has_the_name_of_another() -> None:
    found = documented()
    for each in walk(found):
        if isinstance(each.get("$ref"), str):
            assert looked_up(found, each["$ref"]) is not None
    names = [each["operationId"] for each in operations(found).values()]
    assert len(set(names)) == len(names)
    for path in found["paths"]:
        assert re.fullmatch(r"(/[^/{}<>]*(\{\w+\})?)+", path), path
    for name in found["components"]["schemas"]:
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name), name
    assert found["openapi"].startswith("3.1.")


def test_generators_of_clients_find_a_type_for_everything() -> None:
    """Without these rules, they wrote code that did not compile, or left out operations.

    A name that begins with a digit is no identifier; the name of an HTTP library's own class
    shadows it; two components with one title are one class; a bare object has no members.
    """
    found = documented({**SERVED, "link": link, "pair": pair})
    components = found["components"]
    names = [*components["schemas"], *components["responses"]]
    assert len(set(names)) == len(names)
    assert not [name for name in names if not re.match("[A-Za-z_]", name) or name == "Response"]
    titles = [each["title"] for each in components["schemas"].values() if "title" in each]
    assert len(set(titles)) == len(titles)
    for each in walk(found):
        if each.get("type") == "object":
            assert each.keys() & {"properties", "additionalProperties"}, each
        required = each.get("required", ())
        if isinstance(required, list):  # not of a parameter
            assert {*required} <= each["properties"].keys(), each
        assert "prefixItems" not in each or "items" not in each
    keyed = documented(admission=Admission(keyring=Keyring(MemoryState())))
    assert all("security" in each for each in operations(keyed).values())
    used = {str(each.get("$ref")) for each in walk(keyed)}
    unused = [each for each in keyed["components"]["responses"] if f"{RESPONSES}{each}" not in used]
    assert not unused
    assert found["security"] == []


def test_a_default_is_told_as_it_is() -> None:
    """Also with a member whose name is a word of JSON Schema."""
    asked = operations(documented({"choose": choose}))["/v1/pipelines/choose/runs", "post"]
    inputs = asked["requestBody"]["content"]["application/json"]["schema"]["properties"]["inputs"]
    assert inputs["properties"]["shown"]["default"] == {"items": False}


def test_a_class_in_a_form_is_that_in_json_unless_it_has_a_file() -> None:
    found = documented()
    content = operations(found)["/v1/pipelines/a%20b/runs", "post"]["requestBody"]["content"]
    form = content["multipart/form-data"]["schema"]["properties"]
    inputs = content["application/json"]["schema"]["properties"]["inputs"]["properties"]
    assert form["sections"] == inputs["sections"]
    assert form["file"] != inputs["file"]
    assert not [name for name in found["components"]["schemas"] if ".form." in name]


def test_a_problem_lists_all_that_it_may_have() -> None:
    fields = documented()["components"]["schemas"]["Problem"]["properties"].keys()
    failed = RunFailed(1, 0.0, "LimitReachedError", "", step="s", where="w")
    errors = (
        BudgetExceededError("", budget="b"),
        LimitReachedError("", code="c"),
        InputError("", field="f"),
    )
    for error in errors:
        assert (
            {"run_id", "error", "step", "where"}
            < failed_run("r", failed, error).body.keys()
            <= fields
        )


def test_a_schema_of_openais_has_a_name_for_a_program_and_for_nobody_inside() -> None:
    assert all(re.fullmatch("[A-Z][A-Za-z]+", name) for name in OPENAI_SCHEMAS), (
        OPENAI_SCHEMAS.keys()
    )
    assert {"ChatBody", "ChatMessage", "EmbeddingsBody"} <= OPENAI_SCHEMAS.keys()
    assert all(each.get("title", name) == name for name, each in OPENAI_SCHEMAS.items())


def test_a_pipeline_has_a_path_with_its_inputs_as_json_as_a_form_and_as_a_query() -> None:
    found = documented()
    told = operations(found)["/v1/pipelines/a%20b/runs", "post"]
    assert (told["summary"], told["description"]) == (
        "Put it together.",
        "In the `tone` that is asked for.",
    )
    content = told["requestBody"]["content"]
    asked = content["application/json"]["schema"]["properties"]["inputs"]
    assert asked["required"] == ["sections"]
    section = looked_up(found, asked["properties"]["sections"]["items"]["$ref"])
    inside = looked_up(found, section["properties"]["inside"]["items"]["$ref"])
    assert inside is section, "it may hold itself"
    form = content["multipart/form-data"]["schema"]["properties"]
    assert form["file"]["anyOf"][0]["contentMediaType"] == "application/octet-stream"
    asked_by = operations(found)["/v1/pipelines/count/runs", "get"]["parameters"]
    query = [(each["name"], each["schema"]) for each in asked_by if each["in"] == "query"]
    assert query == [
        ("count", {"type": "integer", "default": 10}),
        ("hold", {"type": "boolean", "default": False}),
    ]
    asked_by = operations(found)["/v1/pipelines/a%20b/runs", "get"]["parameters"]
    names = [each["name"] for each in asked_by if each["in"] == "query"]
    assert names == ["tone", "top"], "no query can say a list of objects, nor a file"


def test_a_pipeline_says_what_it_gives() -> None:
    found = documented()

    def given(name: str, method: str) -> Any:
        told = operations(found)[f"/v1/pipelines/{name}/runs", method]["responses"]["200"]
        schema = told["content"]["application/json"]["schema"]
        if "$ref" in schema:
            schema = looked_up(found, schema["$ref"])
        names = ["run_id", "result", "timings_s", "usage", "usage_by_model", "cut"]
        assert schema["required"] == names
        return schema["properties"]["result"]

    assert given("a%20b", "post")["type"] == given("count", "get")["type"] == "string"
    sections = given("outline", "post")
    assert sections["type"] == "array"
    section = looked_up(found, sections["items"]["$ref"])
    assert section["properties"]["title"] == {"type": "string"}
    assert given("anything", "post").keys() == {"description"}
    assert given("{name}", "post") == given("anything", "post")


def test_a_member_may_be_named_as_references_are() -> None:
    """It was taken for one, and nobody was told of anything."""
    found = documented({"link": link})
    schema = looked_up(found, "#/components/schemas/link.result.Link")
    assert schema["properties"]["$ref"] == {"type": "string"}


def test_classes_of_pipelines_whose_names_are_alike_in_ascii_are_not_mixed_up() -> None:
    told = documented({"ä": outline, "ö": link})["components"]["schemas"]
    assert told["_.result.Section"]["properties"].keys() == {"title", "inside"}
    assert told["_.result_.Link"]["properties"].keys() == {"$ref"}


def test_what_can_become_of_a_run_is_told_with_its_status_and_type() -> None:
    found = documented()
    answers = operations(found)["/v1/pipelines/count/runs", "post"]["responses"]
    for kind in KINDS:
        told = failed_run("r", RunFailed(1, 0.0, kind.error.__name__, ""))
        assert told.code in types(found, answers[str(told.status)])
    assert types(found, answers["422"]) >= {"bad-inputs", "model-refused"}
    assert set(answers["200"]["content"]) == {"application/json", "text/event-stream"}


def test_a_refusal_lists_the_headers_with_which_it_may_come() -> None:
    """When to try again, and, where a run has failed, which it was."""
    found = documented()

    def headers(path: str, status: str) -> set[str]:
        answer = operations(found)[path, "post"]["responses"][status]
        return {*map(str.lower, looked_up(found, answer["$ref"])["headers"])}

    for path in ("/v1/pipelines/count/runs", "/v1/chat/completions"):
        assert all("retry-after" in headers(path, status) for status in ("429", "502", "503"))
        assert "retry-after" not in headers(path, "404")
    assert "x-orchestra-run-id" in headers("/v1/chat/completions", "502")


def types(found: Json, answer: Json) -> set[str]:
    """The ends of the types of the problems in an answer."""
    resolved = looked_up(found, answer["$ref"])
    schema = resolved["content"]["application/problem+json"]["schema"]
    enum = looked_up(found, schema["$ref"])["allOf"][1]["properties"]["type"]["enum"]
    return {each.rpartition(":")[2] for each in enum}


def test_keys_are_told_of_where_there_are_keys() -> None:
    free = documented()
    assert "securitySchemes" not in free["components"]
    assert not any({"401", "403"} & each["responses"].keys() for each in operations(free).values())
    keyed = documented(admission=Admission(keyring=Keyring(MemoryState())))
    scheme, other = keyed["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert (other["type"], other["in"], other["name"]) == ("apiKey", "header", "x-api-key")
    told = operations(keyed)
    either = {path for (path, _), each in told.items() if {"anthropicKey": []} in each["security"]}
    assert either == {
        *("/v1/messages", "/v1/messages/count_tokens"),
        *("/v1/models", "/v1/models/{model}"),
    }
    for path in either:
        of_path = {method: each for (at, method), each in told.items() if at == path}
        operation = of_path.get("post") or of_path["get"]
        assert {"key": []} in operation["security"], "one of the two will do"
        assert "anthropic-version" in [each["name"] for each in operation["parameters"]]
    assert told["/docs", "get"]["security"] == [{}]
    run = told["/v1/pipelines/count/runs", "post"]
    assert run["security"] == [{"key": []}]
    assert types(keyed, run["responses"]["401"]) >= {"key-missing", "key-expired"}
    assert types(keyed, run["responses"]["403"]) == {"not-allowed"}


def test_limits_and_budgets_are_told_of_where_there_are_some() -> None:
    free = operations(documented())["/v1/pipelines", "get"]["responses"]
    assert not {"402", "429"} & free.keys()
    admission = Admission(
        rates=CallerLimits(CallerRules(), MemoryState()), purse=Purse(Budgets(), MemoryState())
    )
    limited = documented(admission=admission)
    told = operations(limited)["/v1/pipelines", "get"]["responses"]
    assert types(limited, told["402"]) == {"budget-exceeded"}
    assert types(limited, told["429"]) == {"rate-limited"}
    spoken = operations(limited)["/v1/chat/completions", "get"]["responses"]
    assert "402" not in spoken, "a client of OpenAI's knows no such status"
    error = looked_up(limited, spoken["429"]["$ref"])["content"]["application/json"]["schema"]
    assert error["x-codes"] == ["rate_limit_exceeded", "insufficient_quota"]


# --- events ------------------------------------------------------------------------------------

TEXT = st.text(max_size=5)
FILLED = st.builds(Usage, input_tokens=st.integers(0, 9))
for_field = {
    "bool": st.booleans(),
    "int": st.integers(0, 9),
    "int | None": st.none() | st.integers(0, 9),
    "float": st.floats(0, 9),
    "float | None": st.none() | st.floats(0, 9),
    "str": TEXT,
    "str | None": st.none() | TEXT,
    "Any": st.none() | TEXT,
    "Mapping[str, Any] | None": st.none() | st.dictionaries(TEXT, TEXT, max_size=2),
    "Usage | None": st.none() | FILLED,
    "Mapping[str, str]": st.dictionaries(TEXT, TEXT, max_size=2),
    "Mapping[str, Usage]": st.dictionaries(TEXT, FILLED, max_size=2),
    "Mapping[str, float]": st.dictionaries(TEXT, st.floats(0, 9), max_size=2),
}


@st.composite
def events(draw: st.DrawFn) -> Event:
    kind = draw(st.sampled_from(get_args(Event)))
    fields = {field.name: draw(for_field[field.type]) for field in attrs.fields(kind)}
    return kind(**fields)  # type: ignore[no-any-return]


SCHEMAS = event_schemas()
RESPONSES = "#/components/responses/"


@given(events())
def test_every_event_is_as_its_schema_says(event: Event) -> None:
    schema = SCHEMAS[type(event).__name__]
    told = msgspec.json.decode(encode(event, "r-1"), type=dict[str, Any])
    assert list(told) == schema["required"] == list(schema["properties"])
    assert {"const": told["type"]} == schema["properties"]["type"]
    assert SCHEMAS["Event"]["discriminator"]["mapping"][told["type"]].endswith(schema["title"])
    if told.get("usage") is not None:
        assert set(told["usage"]) == set(SCHEMAS["Usage"]["required"])


# --- what is served ----------------------------------------------------------------------------


@asynccontextmanager
async def house(admission: Admission = OPEN) -> AsyncIterator[Any]:
    async with open_engine(World()) as engine:
        app = create_app(engine, SERVED, Settings(), admission)
        async with open_house(app, Settings()) as opened:
            yield opened


def test_whoever_has_a_key_is_told_of_what_it_may_run() -> None:
    async def main() -> tuple[Reply, Reply, Reply]:
        ring = Keyring(MemoryState())
        made = await ring.create(NewKey(organisation="acme", pipelines=("count",)))
        async with house(Admission(keyring=ring)) as opened:
            client = await opened.connect()
            stranger = await client.ask("GET /openapi.json HTTP/1.1")
            key = f"Authorization: Bearer {made.text}"
            known = await client.ask(f"GET /openapi.json HTTP/1.1\n{key}")
            return stranger, known, await client.ask("GET /docs HTTP/1.1")

    stranger, known, read = trio.run(main)
    assert (stranger.status, known.status, read.status) == (401, 200, 200)
    assert known.headers["content-type"] == "application/json"
    paths: Any = known.json["paths"]
    assert "/v1/pipelines/count/runs" in paths
    assert not [path for path in paths if "a%20b" in path]
    assert read.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'sha256-" in read.headers["content-security-policy"]


def test_the_page_needs_nothing_from_elsewhere_and_may_load_nothing() -> None:
    text, policy = page()
    assert not re.findall(r"https?://", text)
    assert "innerHTML" not in text
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert len(re.findall("<(?:script|style)", PAGE.read_text())) == 2, "each with its hash"
    assert not re.findall(r"\son\w+=|\sstyle=", text), "which the policy would not run"


@pytest.mark.parametrize("problem", [HttpProblem(404, "x", "y", "z")])
def test_a_route_that_nobody_described_is_still_told(problem: HttpProblem) -> None:
    route = structs.replace(routes()[0], name="new", path="/v1/new/<path:what>", methods=("PUT",))
    found = document([route], {}, Settings())
    told = operations(found)["/v1/new/{what}", "put"]
    assert told["operationId"] == "new"
    assert "200" not in told["responses"]
    assert shaped_at("/v1/new/a", problem) == problem
