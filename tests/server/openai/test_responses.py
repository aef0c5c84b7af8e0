"""OpenAI's responses API on the wire: what is kept, what goes on from it, and who sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from orchestra.access.principal import Principal, Scopes
from orchestra.accounts import Caller
from orchestra.engine.engine import open_engine
from orchestra.errors import OverloadedError, StateError
from orchestra.graph.pipelines import pipeline
from orchestra.graph.steps import step
from orchestra.server.app import create_app
from orchestra.server.front.layers import OPEN, Admission
from orchestra.server.openai import stored as openai_stored
from orchestra.server.settings import Settings
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import (
    ChatRequest,
    Json,
    Message,
    ReasoningDelta,
    Stopped,
    StopReason,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)
from tests.server.wire import House, Reply, open_house

POST = "POST /v1/responses HTTP/1.1\nContent-Type: application/json"
MODELS = {
    "m": ScriptedModel.saying("one ", "two"),
    "thinking": ScriptedModel(
        (
            (0.0, ReasoningDelta("Hm.", "anthropic:c2Vh")),
            (0.0, ToolCallDelta(0, "call_1", "weather", '{"city": "Paris"}')),
            (0.0, Stopped(StopReason.TOOL_CALLS)),
        )
    ),
    "cut": ScriptedModel(((0.0, TextDelta("a")), (0.0, Stopped(StopReason.LENGTH)))),
    "breaking": ScriptedModel(((0.0, TextDelta("a")),), OverloadedError("no room")),
    "broken": ScriptedModel((), OverloadedError("no room")),
}


@step
async def written(request: ChatRequest) -> str:
    """The conversation, in a line."""
    said = []
    for message in request.messages:
        for part in message.parts:
            match part:
                case ToolCall():
                    said.append(f"{message.role} calls {part.name}")
                case ToolResult():
                    said.append(f"{part.name} gave {part.content}")
                case _:
                    said.append(f"{message.role}: {getattr(part, 'text', part)}")
    return "; ".join(said)


@step
async def echoed(messages: list[Message]) -> str:
    return messages[-1].text


@pipeline
def chat(messages: list[Message]) -> str:
    """Say it back."""
    return echoed(messages)


@pipeline
def heard(request: ChatRequest) -> str:
    """Say what one was told."""
    return written(request)


class ByName:
    """A keyring whose tokens are names: each may do what `scopes` say."""

    def __init__(self, scopes: Scopes) -> None:
        self._scopes = scopes

    async def authenticate(self, token: str) -> Principal:
        organisation, user = token.split("/")
        return Principal(Caller(organisation, user), self._scopes)


class Asker:
    """A client of a server; `by` is whose key it has."""

    def __init__(self, house: House, by: str = "") -> None:
        self._house = house
        self._key = f"\nAuthorization: Bearer {by}" if by else ""

    async def ask(self, model: str, said: object = "Hi", **fields: object) -> Reply:
        body = msgspec.json.encode({"model": model, "input": said, **fields})
        return await (await self._house.connect()).ask(POST + self._key, body)

    async def send(self, method: str, path: str) -> Reply:
        head = f"{method} /v1/responses/{path} HTTP/1.1{self._key}"
        return await (await self._house.connect()).ask(head, b"")


def served(
    main: Callable[[House], Awaitable[None]],
    admission: Admission = OPEN,
    settings: Settings | None = None,
) -> None:
    settings = settings or Settings()

    async def run() -> None:
        async with open_engine(World(models=MODELS)) as engine:
            app = create_app(engine, {"heard": heard, "chat": chat}, settings, admission)
            async with open_house(app, settings) as house:
                await main(house)

    trio.run(run)


def found(reply: Reply) -> Any:
    """What an answer holds."""
    return reply.json


def told(reply: Reply) -> tuple[int, object, object]:
    error = found(reply)["error"]
    return reply.status, error["code"], error["param"]


def events(reply: Reply) -> list[Json]:
    frames = [each for each in reply.body.decode().split("\n\n") if each.startswith("event: ")]
    return [msgspec.json.decode(each.split("\ndata: ")[1]) for each in frames]


def text(reply: Reply) -> str:
    output = found(reply)["output"]
    return "".join(part["text"] for item in output for part in item["content"])


def test_an_answer_is_the_same_whole_and_streamed_and_as_it_was_kept() -> None:
    async def main(house: House) -> None:
        asker = Asker(house)
        for model, status in (("m", "completed"), ("thinking", "completed"), ("cut", "incomplete")):
            whole = await asker.ask(model, metadata={"a": "b"})
            stream = await asker.ask(model, stream=True, metadata={"a": "b"})
            *_, last = events(stream)
            assert last["type"] == f"response.{status}"
            alike = list[Json]()
            for record in (found(whole), last["response"]):
                run = record["usage"]["orchestra"]["run_id"]
                assert record["id"] == f"resp_{run}"
                assert found(await asker.send("GET", record["id"])) == record
                same = msgspec.json.decode(msgspec.json.encode(record).replace(run.encode(), b"R"))
                del same["usage"]["orchestra"]["time_to_first_token_s"]
                alike.append({**same, "created_at": 0})
            assert alike[0] == alike[1]
            assert whole.headers["x-orchestra-model"] == model

    served(main)


def test_a_conversation_goes_on_from_what_was_kept() -> None:
    async def main(house: House) -> None:
        asker = Asker(house)
        first = await asker.ask("heard", "One?", instructions="Be kind.")
        assert text(first) == "system: Be kind.; user: One?"
        second = await asker.ask("heard", "Two?", previous_response_id=found(first)["id"])
        assert text(second) == (
            "user: One?; assistant: system: Be kind.; user: One?; user: Two?"
        ), "all but the instructions, as at OpenAI"
        third = await asker.ask("heard", "Three?", previous_response_id=found(second)["id"])
        assert text(third).startswith("user: One?; assistant: ")
        assert text(third).endswith("; user: Three?")
        items = await asker.send("GET", f"{found(third)['id']}/input_items?order=asc&limit=100")
        assert [each.get("role") for each in found(items)["data"]] == ["user", "assistant"] * 2 + [
            "user"
        ]

    served(main)


def test_items_may_be_named_that_were_kept() -> None:
    """As Vercel's SDK does it, which sends no call twice."""

    async def main(house: House) -> None:
        asker = Asker(house)
        thought, call = found(await asker.ask("thinking"))["output"]
        assert (thought["summary"][0]["text"], call["name"]) == ("Hm.", "weather")
        named = [{"type": "item_reference", "id": each["id"]} for each in (thought, call)]
        result = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
        reply = await asker.ask("heard", [{"role": "user", "content": "?"}, *named, result])
        assert text(reply) == (
            "user: ?; assistant: Hm.; assistant calls weather; weather gave sunny"
        )

    served(main)


def test_a_server_may_keep_nothing_whatever_clients_want() -> None:
    async def main(house: House) -> None:
        asker = Asker(house)
        record = found(await asker.ask("m", store=True))
        assert record["store"] is False
        assert (await asker.send("GET", record["id"])).status == 404
        chat = "POST /v1/chat/completions HTTP/1.1\nContent-Type: application/json"
        asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "store": True}
        reply = await (await house.connect()).ask(chat, msgspec.json.encode(asked))
        assert reply.status == 200
        listed = await (await house.connect()).ask("GET /v1/chat/completions HTTP/1.1")
        assert found(listed)["data"] == []

    served(main, settings=Settings(store_answers=False))


def test_what_is_not_to_be_kept_is_not() -> None:
    async def main(house: House) -> None:
        asker = Asker(house)
        for stream in (False, True):
            reply = await asker.ask("m", store=False, stream=stream)
            record = events(reply)[-1]["response"] if stream else found(reply)
            assert record["store"] is False
            assert (await asker.send("GET", record["id"])).status == 404
            gone = await asker.ask("m", previous_response_id=record["id"])
            assert told(gone) == (400, "previous_response_not_found", "previous_response_id")
            item = {"type": "item_reference", "id": record["output"][0]["id"]}
            assert told(await asker.ask("m", [item])) == (400, "invalid_value", "input[0].id")

    served(main)


def test_whoever_is_told_that_an_answer_is_whole_finds_it_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clients go on from it at once."""
    change, gate = MemoryState.change, trio.Event()

    async def slowly(*given: Any) -> object:
        await gate.wait()
        return await change(*given)

    async def main(house: House) -> None:
        monkeypatch.setattr(MemoryState, "change", slowly)
        client, told_whole = await house.connect(), trio.Event()
        await client.send(POST, msgspec.json.encode({"model": "m", "input": "", "stream": True}))
        await client.until(b"one ")

        async def read() -> None:
            await client.until(b"response.completed")
            told_whole.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert not told_whole.is_set()
            gate.set()

    served(main)


def test_what_is_deleted_is_gone() -> None:
    async def main(house: House) -> None:
        asker = Asker(house)
        id_ = found(await asker.ask("m"))["id"]
        gone = await asker.send("DELETE", id_)
        assert gone.json == {"id": id_, "object": "response", "deleted": True}
        for method, path in (("GET", id_), ("DELETE", id_), ("GET", f"{id_}/input_items")):
            assert told(await asker.send(method, path)) == (404, "not_found", "response_id")

    served(main)


def test_what_somebody_else_was_answered_does_not_exist() -> None:
    """Not by its id, not to go on from, and not item by item; to a colleague neither."""

    async def main(house: House) -> None:
        ada, bob, eve = (Asker(house, each) for each in ("acme/ada", "acme/bob", "evil/eve"))
        record = found(await ada.ask("m"))
        item = {"type": "item_reference", "id": record["output"][0]["id"]}
        for other in (bob, eve):
            assert told(await other.send("GET", record["id"]))[0] == 404
            assert told(await other.send("DELETE", record["id"]))[0] == 404
            assert told(await other.send("GET", f"{record['id']}/input_items"))[0] == 404
            assert told(await other.ask("m", previous_response_id=record["id"]))[0] == 400
            assert told(await other.ask("m", [item]))[0] == 400
        assert (await ada.send("GET", record["id"])).status == 200
        assert (await ada.ask("m", [item, {"role": "user", "content": "?"}])).status == 200

    scopes = Scopes(models=frozenset({"m"}))
    served(main, admission=Admission(keyring=ByName(scopes)))  # type: ignore[arg-type]


def test_a_failure_before_anything_is_said_is_an_http_error_and_later_the_last_event() -> None:
    async def main(house: House) -> None:
        asker = Asker(house)
        for stream in (False, True):
            assert told(await asker.ask("broken", stream=stream)) == (503, "overloaded", None)
        assert told(await asker.ask("breaking")) == (503, "overloaded", None)
        *_, failed, last = events(await asker.ask("breaking", stream=True))
        assert failed["response"]["status"] == "failed"
        assert (last["type"], last["error"]["code"]) == ("error", "overloaded")
        assert (await asker.send("GET", failed["response"]["id"])).status == 404

    served(main)


def test_what_is_wrong_is_told_with_its_field() -> None:
    async def main(house: House) -> None:
        asker = Asker(house)
        assert told(await asker.ask("nobody")) == (404, "model_not_found", "model")
        assert told(await asker.ask("m", [])) == (400, "invalid_value", "input")
        assert told(await asker.ask("m", background=True)) == (400, "invalid_value", "background")
        wanted = {"format": {"type": "json_object"}}
        refused = await asker.ask("chat", text=wanted)
        assert told(refused) == (400, "invalid_value", "text.format")
        assert found(refused)["error"]["message"].startswith("text.format: this model is a pipe")
        bad = await asker.send("GET", f"{found(await asker.ask('m'))['id']}/input_items?limit=x")
        assert told(bad) == (400, "invalid_value", "limit")

    served(main)


def test_of_one_that_is_too_large_to_be_kept_the_answer_comes_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(openai_stored, "BYTES_MAX", 100)

    async def main(house: House) -> None:
        asker = Asker(house)
        assert text(await asker.ask("m")) == "one two"
        assert events(await asker.ask("m", stream=True))[-1]["type"] == "response.completed"

    served(main)
    assert caplog.text.count("is not stored: it is larger than") == 2


def test_where_the_state_is_away_answers_come_and_none_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(*_: object) -> None:
        raise StateError("the state is away")

    async def main(house: House) -> None:
        asker = Asker(house)
        id_ = found(await asker.ask("m"))["id"]
        monkeypatch.setattr(MemoryState, "change", away)
        assert text(await asker.ask("m")) == "one two"
        assert told(await asker.ask("m", previous_response_id=id_))[:2] == (
            503,
            "state_unreachable",
        )
        for method, path in (("GET", id_), ("DELETE", id_), ("GET", f"{id_}/input_items")):
            assert told(await asker.send(method, path))[0] == 503

    served(main)
