"""Every route's real answers, and its problems, are as the OpenAPI document tells them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, cast

import attrs
import msgspec
import trio

from orchestra.engine.engine import open_engine
from orchestra.errors import OverloadedError
from orchestra.observe.counting import Counting
from orchestra.observe.metrics import Metrics
from orchestra.protocols import Embedder
from orchestra.runs.local import CONTINUE
from orchestra.server.app import create_app
from orchestra.server.settings import Settings
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import Json, Purpose, Vector
from tests.server.openapi.test_description import looked_up
from tests.server.served import PIPELINES
from tests.server.wire import House, Reply, open_house

KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
ANNOTATIONS = {"title", "description", "default", "discriminator", "contentMediaType"}
STREAM = "text/event-stream"


def wrong(  # noqa: C901, PLR0912 - a case for each word
    document: Json, schema: Json, value: Any, at: str = ""
) -> Iterator[str]:
    """What is wrong with a value by a JSON Schema; of the words in our documents."""
    for word, rule in schema.items():
        within = partial(wrong, document)
        match word:
            case "$ref":
                yield from within(looked_up(document, rule), value, at)
            case "type":
                boolean = isinstance(value, bool) and rule != "boolean"
                if boolean or not isinstance(value, KINDS[rule]):
                    yield f"{at}: {value!r:.80} is not of type {rule}"
            case "enum" | "const":
                if value not in (rule if word == "enum" else [rule]):
                    yield f"{at}: {value!r:.80} is not in {rule}"
            case "anyOf" | "oneOf" | "allOf":
                each = [[*within(one, value, at)] for one in rule]
                fits = sum(not found for found in each)
                if not {"anyOf": fits > 0, "oneOf": fits == 1, "allOf": fits == len(each)}[word]:
                    yield f"{at}: {value!r:.80} fits {fits} of {word}: {each}"
            case "properties" if isinstance(value, dict):
                for name in rule.keys() & value.keys():
                    yield from within(rule[name], value[name], f"{at}/{name}")
            case "required" if isinstance(value, dict):
                yield from (f"{at}: {name!r} is missing" for name in rule if name not in value)
            case "additionalProperties" if isinstance(value, dict) and rule is not True:
                for name in value.keys() - schema.get("properties", {}).keys():
                    told = {"not": True} if rule is False else rule
                    yield from within(told, value[name], f"{at}/{name}")
            case "items" if isinstance(value, list):
                for number, item in enumerate(value):
                    yield from within(rule, item, f"{at}/{number}")
            case "minimum" if isinstance(value, int | float):
                if value < rule:
                    yield f"{at}: {value} is below {rule}"
            case "not":
                yield f"{at}: it is not told"
            case _:
                known = {"properties", "required", "additionalProperties", "items", "minimum"}
                assert word in known | ANNOTATIONS or word.startswith("x-"), word


def unlike(document: Json, method: str, path: str, reply: Reply) -> tuple[str, list[str]]:
    """The path of the document that a path is, and where its answer is unlike what is told."""
    at = next(
        told
        for told in sorted(document["paths"], key=lambda each: each.count("{"))
        if re.fullmatch(re.sub(r"\{\w+\}", ".+" if "{model}" in told else "[^/]+", told), path)
    )
    responses = document["paths"][at][method.lower()]["responses"]
    answer = responses.get(str(reply.status))
    if answer is None:
        return at, [f"status {reply.status}"]
    answer = looked_up(document, answer["$ref"]) if "$ref" in answer else answer
    contents = answer.get("content", {})
    kind = reply.headers.get("content-type", "").partition(";")[0]
    if not reply.body and not contents:
        return at, []
    told = next((each for name, each in contents.items() if name.startswith(kind)), None)
    if told is None:
        return at, [f"content type {kind!r} of {reply.status}"]
    if kind == STREAM:
        data = told["schema"]["properties"]["data"]["contentSchema"]
        events = re.findall(rb"^data: (\{.*)$", reply.body, re.MULTILINE)
        assert events
        each = (wrong(document, data, msgspec.json.decode(event)) for event in events)
        return at, [found for faults in each for found in faults]
    value = msgspec.json.decode(reply.body) if kind.endswith("json") else reply.body.decode()
    return at, [*wrong(document, told["schema"], value)]


class Vectors(Embedder):
    """The same vector for each text."""

    @property
    def dimensions(self) -> int:
        return 2

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        del purpose
        return [Vector.of([0.6, 0.8]) for _ in texts]


MODELS = {
    "m": ScriptedModel.saying("one ", "two"),
    "broken": ScriptedModel((), OverloadedError("no room")),
}
CHAT: Json = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
ANTHROPIC = "anthropic-version: 2023-06-01"
COUNT = "/v1/pipelines/count/runs"
HELD: Json = {"inputs": {"count": 2, "hold": True}}


@attrs.define
class Asker:
    """Asks a server, and compares each answer with the document."""

    house: House
    document: Json
    asked: set[tuple[str, str]] = attrs.field(factory=set)
    wrong: list[str] = attrs.field(factory=list)

    async def __call__(
        self, status: int, what: str, body: Json | None = None, *headers: str
    ) -> Reply:
        lines = [f"{what} HTTP/1.1", *headers]
        lines += [] if body is None else ["Content-Type: application/json"]
        client = await self.house.connect()
        data = b"" if body is None else msgspec.json.encode(body)
        reply = await client.ask("\n".join(lines), data)
        if reply.status != status:
            self.wrong.append(f"{what}: it is answered with {reply}")
        method, _, target = what.partition(" ")
        at, found = unlike(self.document, method, target.partition("?")[0], reply)
        self.asked.add((method, at))
        self.wrong += [f"{what}: {each}" for each in found]
        return reply


async def pipelines(ask: Asker) -> None:
    """Pipelines, and the runs that are started of them."""
    await ask(200, "GET /v1/pipelines")
    await ask(200, "GET /v1/pipelines/count")
    for method, body in (("GET", None), ("POST", HELD)):
        await ask(404, f"{method} /v1/pipelines/nope/runs", body)
        await ask(406, f"{method} {COUNT}", body, "Accept: text/html")
    await ask(404, "GET /v1/pipelines/nope")
    await ask(426, "GET /v1/pipelines/count/ws")
    await ask(200, f"GET {COUNT}?count=2")
    await ask(200, f"GET {COUNT}?count=2", None, f"Accept: {STREAM}")
    await ask(204, f"GET {COUNT}", None, "Last-Event-ID: 7")
    await ask(422, f"GET {COUNT}?count=x&cuont=3")
    await ask(200, f"POST {COUNT}", {"inputs": {"count": 2}})
    await ask(400, f"POST {COUNT}", HELD, "Last-Event-ID: 7")
    await ask(400, f"POST {COUNT}", HELD, "Idempotency-Key: a b")
    await ask(415, f"POST {COUNT}")
    await ask(422, f"POST {COUNT}", {"inputs": []})
    for how, status in (("foreign", 500), ("model", 502), ("key", 422), ("slow", 504)):
        asked: Json = {"inputs": {"how": how}}
        await ask(status, "POST /v1/pipelines/broken/runs", asked)
        await ask(200, "POST /v1/pipelines/broken/runs", asked, f"Accept: {STREAM}")


async def runs(ask: Asker) -> None:
    """Runs as resources."""
    wish = "Prefer: respond-async"
    begun = await ask(202, f"POST {COUNT}", HELD, wish, "Idempotency-Key: k")
    await ask(202, f"POST {COUNT}", HELD, wish, "Idempotency-Key: k")
    await ask(422, f"POST {COUNT}", {"inputs": {}}, "Idempotency-Key: k")
    at = begun.headers["location"]
    await ask(200, f"GET {at}")
    await ask(200, f"DELETE {at}")
    await ask(200, f"GET {at}")
    await ask(200, f"GET {at}/events")
    await ask(204, f"GET {at}/events?after=99")
    await ask(400, f"GET {at}/events?after=x")
    await ask(406, f"GET {at}/events", None, "Accept: text/html")
    for ended in ("count", "broken"):
        inputs = {"how": "foreign"} if ended == "broken" else {"count": 2}
        found = await ask(202, f"POST /v1/pipelines/{ended}/runs", {"inputs": inputs}, wish)
        await ask(200, f"GET {found.headers['location']}/events")
        await ask(200, f"GET {found.headers['location']}")
    for what in ("GET /v1/runs/x", "DELETE /v1/runs/x", "GET /v1/runs/x/events"):
        await ask(404, what)
    await ask(200, "GET /v1/runs?limit=2")
    await ask(422, "GET /v1/runs?limit=0")


async def models(ask: Asker) -> None:
    """Models, as OpenAI's and Anthropic's clients ask them."""
    for headers in ((), (ANTHROPIC,)):
        await ask(200, "GET /v1/models", None, *headers)
        await ask(200, "GET /v1/models/m", None, *headers)
        await ask(404, "GET /v1/models/n", None, *headers)
    await ask(200, "DELETE /v1/models/m")
    for path in ("/v1/chat/completions", "/v1/messages"):
        await ask(200, f"POST {path}", CHAT)
        await ask(200, f"POST {path}", {**CHAT, "stream": True})
        await ask(404, f"POST {path}", {**CHAT, "model": "n"})
        await ask(400, f"POST {path}", {**CHAT, "messages": 3})
        await ask(415, f"POST {path}")
        await ask(503 if "chat" in path else 529, f"POST {path}", {**CHAT, "model": "broken"})
    counted: Json = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    await ask(200, "POST /v1/chat/completions", counted)
    await ask(200, "POST /v1/messages/count_tokens", CHAT)
    await ask(404, "POST /v1/messages/count_tokens", {**CHAT, "model": "n"})
    embed: Json = {"model": "vectors", "input": ["a", "b"]}
    await ask(200, "POST /v1/embeddings", embed)
    await ask(200, "POST /v1/embeddings", {**embed, "encoding_format": "base64"})
    await ask(404, "POST /v1/embeddings", {**embed, "model": "n"})


async def kept(ask: Asker) -> None:
    """Answers that are kept."""
    store: Json = {**CHAT, "store": True, "metadata": {"a": "b"}}
    at = f"/v1/chat/completions/{(await ask(200, 'POST /v1/chat/completions', store)).json['id']}"
    await ask(200, "GET /v1/chat/completions")
    await ask(400, "GET /v1/chat/completions?limit=x")
    await ask(200, f"GET {at}")
    await ask(200, f"GET {at}/messages")
    await ask(200, f"POST {at}", {"metadata": {"a": "c"}})
    said: Json = {"model": "m", "input": "hi", "store": True}
    await ask(200, "POST /v1/responses", {**said, "stream": True})
    response = f"/v1/responses/{(await ask(200, 'POST /v1/responses', said)).json['id']}"
    await ask(200, f"GET {response}")
    await ask(200, f"GET {response}/input_items")
    for each in (at, response):
        await ask(200, f"DELETE {each}")
        await ask(404, f"DELETE {each}")
        await ask(404, f"GET {each}")
    await ask(404, f"GET {at}/messages")
    await ask(404, f"GET {response}/input_items")


async def service(ask: Asker) -> None:
    """What those ask who run it."""
    for path in ("/healthz", "/readyz", "/v1/health/models", "/metrics", "/openapi.json", "/docs"):
        await ask(200, f"GET {path}")


def test_every_answer_and_problem_is_as_its_route_is_documented() -> None:
    async def main() -> None:
        world = World(models=MODELS, embedders={"vectors": Vectors()})
        own = Settings(linger_s=CONTINUE)
        async with open_engine(world) as engine:
            app = create_app(engine, PIPELINES, own, counting=Counting(Metrics({})))
            async with open_house(app.asgi_app, own) as house:
                told = (await (await house.connect()).ask("GET /openapi.json HTTP/1.1")).json
                ask = Asker(house, told)
                for each in (service, pipelines, runs, models, kept):
                    await each(ask)
        assert not ask.wrong, "\n".join(ask.wrong)
        everything = {
            (method.upper(), path)
            for path, methods in cast("Json", told["paths"]).items()
            for method, operation in methods.items()
            if operation["tags"] != ["pipelines served here"]
        }
        unasked = everything - ask.asked
        assert not unasked, f"ask these routes in one of the functions above: {unasked}"

    trio.run(main)
