"""Completions that clients asked to be kept: a model of them, and the wire."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.access.principal import ANYBODY, Principal, Scopes
from orchestra.accounts import Caller
from orchestra.engine.engine import open_engine
from orchestra.errors import StateError
from orchestra.protocols import Change, Entry, State
from orchestra.server.app import create_app
from orchestra.server.openai import stored as openai_stored
from orchestra.server.openai.stored import Kept, StoredCompletions, Wanted, messages_of
from orchestra.server.settings import Settings
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import Json
from tests.server.deployment import Well
from tests.server.wire import Client, Reply, open_house

CALLERS = (
    *(Caller("acme", "ada"), Caller("acme", "bob"), Caller("", "eve"), Caller()),
    *(Caller("acme", "ada", end_user=True), Caller("acme", "bob", end_user=True)),
)
POST = "POST /v1/chat/completions HTTP/1.1\nContent-Type: application/json"
BAD = ("limit=x", "limit=-1", "order=up")
"""Queries for pages that there are not."""


def kept(caller: Caller, name: str, model: str = "m", text: str = "", pipeline: str = "") -> Kept:
    return Kept(
        organisation=caller.organisation,
        user=caller.user,
        model=model,
        completion={"id": name, "text": text},
        messages=[],
        metadata={"name": name},
        end_user=caller.end_user,
        pipeline=pipeline,
    )


steps = st.lists(
    st.tuples(
        st.sampled_from(["keep", "get", "rename", "delete", "list"]),
        st.sampled_from(CALLERS),
        st.sampled_from("abc"),
    ),
    max_size=15,
)


@given(steps)
def test_everybody_sees_what_they_kept_and_nobody_elses(
    asked: Sequence[tuple[str, Caller, str]],
) -> None:
    """As a dict would have it that knows who may see what; ids are one caller's each."""

    async def main() -> None:
        state = MemoryState()
        stored = StoredCompletions(lambda: state)
        model: dict[str, tuple[Caller, str]] = {}
        for act, caller, letter in asked:
            who = Principal(caller, Scopes(models=frozenset({"m"})))
            own = {id_: name for id_, (by, name) in model.items() if by == caller}
            name = f"{caller.tenant}-{caller.user}-{letter}".replace(":", "-").replace("/", "-")
            if act == "keep":
                assert await stored.keep(name, kept(caller, name))
                model.pop(name, None)
                model[name] = (caller, name)
            elif act == "get":
                for id_ in (*model, "none"):
                    found = await stored.get(id_, who)
                    assert (found and found.metadata["name"]) == own.get(id_)
            elif act == "rename":
                found = await stored.rename(name, who, {"name": "new"})
                assert (found is not None) == (name in own)
                if name in own:
                    model[name] = (model[name][0], "new")
            elif act == "delete":
                assert await stored.delete(name, who) == (name in own)
                if name in own:
                    del model[name]
            else:
                page = await stored.page(who, Wanted())
                assert [each.metadata["name"] for each in page.kept] == list(own.values())

    trio.run(main)


def test_the_end_users_of_an_organisation_have_its_room_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many users a backend names, the state has no more to keep."""
    monkeypatch.setattr(openai_stored, "COUNT_MAX", 3)

    async def main() -> list[bool]:
        state = MemoryState()
        stored = StoredCompletions(lambda: state)
        users = [Caller("acme", f"u{at}", end_user=True) for at in range(5)]
        for user in users:
            assert await stored.keep(user.user, kept(user, user.user))
        everything = Scopes(models=frozenset({"m"}))
        return [
            await stored.get(user.user, Principal(user, everything)) is not None for user in users
        ]

    assert trio.run(main) == [False, False, True, True, True]


def test_many_that_are_large_together_are_not_read_in_the_event_loop() -> None:
    """They may have 16 MiB, which takes more than a second."""
    own, who = Caller("acme", "ada"), Principal(Caller("acme", "ada"), Scopes(frozenset("*")))
    ids = [f"c{number}" for number in range(40)]
    in_loop = 0

    def profile(frame: FrameType, event: str, called: Any) -> None:
        nonlocal in_loop
        decoder = getattr(called, "__self__", None)
        in_loop += event == "c_call" and decoder is openai_stored._KEPT

    async def main() -> None:
        state = MemoryState()
        stored = StoredCompletions(lambda: state)
        for id_ in ids:
            assert await stored.keep(id_, kept(own, id_, text="x" * 10_000, pipeline="p"))
        sys.setprofile(profile)
        try:
            assert (await stored.several(ids, who)).keys() == set(ids)
            assert not (await stored.page(who, Wanted(model="another"))).kept
        finally:
            sys.setprofile(None)

    trio.run(main)
    assert in_loop == 0


def test_what_somebody_may_not_ask_they_do_not_read_either() -> None:
    """Of a model they read what they have asked themselves, of a pipeline what anybody has.

    As it is with runs, of which the answers are.
    """

    async def main() -> None:
        state = MemoryState()
        stored = StoredCompletions(lambda: state)
        await stored.keep("asked", kept(Caller("acme", "ada"), "asked", "m"))
        await stored.keep("run", kept(Caller("acme", "ada"), "run", "p", pipeline="p"))
        everything = frozenset({"*"})
        for user, scopes, seen in (
            ("ada", Scopes(models=frozenset({"m"})), {"asked"}),
            ("ada", Scopes(models=frozenset({"n", "p"})), set[str]()),
            ("ada", Scopes(pipelines=frozenset({"m"})), set[str]()),
            ("bob", Scopes(models=everything), set[str]()),
            ("bob", Scopes(pipelines=frozenset({"p"})), {"run"}),
            ("bob", Scopes(pipelines=frozenset({"relay"})), {"asked"}),
            ("bob", Scopes(pipelines=everything), {"asked", "run"}),
            ("bob", Scopes(), set[str]()),
        ):
            who = Principal(Caller("acme", user, "another key"), scopes)
            page = await stored.page(who, Wanted())
            assert {each.completion["id"] for each in page.kept} == seen
            for id_ in ("asked", "run"):
                assert (await stored.get(id_, who) is not None) == (id_ in seen)
                assert (await stored.rename(id_, who, {}) is not None) == (id_ in seen)
        assert not await stored.delete("asked", Principal(Caller("acme", "bob"), Scopes()))

    trio.run(main)


def test_other_metadata_make_no_completion_larger_than_it_may_be() -> None:
    async def main() -> dict[str, str]:
        state = MemoryState()
        stored = StoredCompletions(lambda: state)
        await stored.keep("a", kept(Caller(), "a"))
        await stored.rename("a", ANYBODY, {"name": "x" * openai_stored.BYTES_MAX})
        found = await stored.get("a", ANYBODY)
        assert found is not None
        return found.metadata

    assert trio.run(main) == {"name": "a"}


def test_only_the_last_of_a_tenant_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_stored, "COUNT_MAX", 3)

    async def main() -> None:
        state = MemoryState()
        stored = StoredCompletions(lambda: state)
        for number in range(5):
            await stored.keep(str(number), kept(Caller(), str(number), "mn"[number % 2]))
        assert [await stored.get(each, ANYBODY) for each in "01"] == [None, None]

        async def ids(**wanted: Any) -> tuple[str, bool]:
            page = await stored.page(ANYBODY, Wanted(**wanted))
            return "".join(each.completion["id"] for each in page.kept), page.more

        assert await ids() == ("234", False)
        assert await ids(newest_first=True) == ("432", False)
        assert await ids(limit=2) == ("23", True)
        assert await ids(after="2", limit=9) == ("34", False)
        assert await ids(after="gone") == ("", False)
        assert await ids(limit=0) == ("", False)
        assert await ids(model="m") == ("24", False)
        assert await ids(metadata={"name": "3"}) == ("3", False)

    trio.run(main)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 900), st.integers(0, 3))))
def test_a_tenant_keeps_no_more_than_so_many_bytes(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is kept, renamed and deleted: the last that fit, as the state has them."""
    most = 2_000

    async def main() -> None:
        state = MemoryState()
        stored = StoredCompletions(lambda: state)
        for id_, size, act in steps:
            if act == 0:
                await stored.delete(id_, ANYBODY)
            elif act == 1:
                await stored.rename(id_, ANYBODY, {"name": "x" * size})
            else:
                assert await stored.keep(id_, kept(Caller(), id_, text="x" * size))
            there = [await stored.get(each, ANYBODY) for each in "abcdef"]
            found = [each for each in there if each is not None]
            assert sum(len(msgspec.json.encode(each)) for each in found) <= most
            listed = (await stored.page(ANYBODY, Wanted())).kept
            assert sorted(listed, key=lambda each: each.completion["id"]) == found
            if act > 1:
                assert listed[-1].completion["id"] == id_

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_stored, "TOGETHER_BYTES_MAX", most)
        trio.run(main)


def test_what_is_deleted_leaves_its_room_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_stored, "TOGETHER_BYTES_MAX", 2_500)

    async def main() -> None:
        state = MemoryState()
        stored = StoredCompletions(lambda: state)
        for name in "ab":
            await stored.keep(name, kept(Caller(), name, text="x" * 900))
        await stored.delete("b", ANYBODY)
        await stored.keep("c", kept(Caller(), "c", text="x" * 900))
        page = await stored.page(ANYBODY, Wanted())
        assert [each.completion["id"] for each in page.kept] == ["a", "c"]

    trio.run(main)


def test_one_that_cannot_be_read_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """And spoils no list: something has been written that is nested too deeply to be read."""

    async def main() -> None:
        state = MemoryState()
        stored = StoredCompletions(lambda: state)
        for name in "abc":
            await stored.keep(name, kept(Caller(), name))
        written = b'{"completion":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
        key = StoredCompletions(lambda: state)._key("b")
        await state.change([], lambda _, __: Change(None, {key: Entry(written, 9.0)}))
        page = await stored.page(ANYBODY, Wanted())
        assert [each.completion["id"] for each in page.kept] == ["a", "c"]
        assert await stored.get("b", ANYBODY) is None

    trio.run(main)
    assert "cannot be read" in caplog.text


def test_what_is_too_large_is_not_kept() -> None:
    async def main() -> None:
        stored = StoredCompletions(MemoryState)
        assert not await stored.keep("a", kept(Caller(), "a", text="x" * openai_stored.BYTES_MAX))

    trio.run(main)


def test_parts_are_told_apart_from_text() -> None:
    parts = [{"type": "text", "text": "Hi"}]
    asked: list[Json] = [{"role": "user", "content": "Hi"}, {"role": "user", "content": parts}]
    one, two = messages_of("c", asked)
    assert (one["id"], one["content"], one["content_parts"]) == ("c-0", "Hi", None)
    assert (two["id"], two["content"], two["content_parts"]) == ("c-1", None, parts)


class Away(State):
    """A state that is away."""

    async def change(self, keys: Any, decide: Any) -> Any:
        raise StateError("the state is away")

    async def recall(self, key: str) -> bytes | None:
        raise StateError("the state is away")

    async def remember(self, key: str, data: bytes, *, ttl_s: float) -> None:
        raise StateError("the state is away")


class Deployment(World, Well):
    """A world that remembers in a state of its own."""


def on_the_wire(*, state: State, stream: bool = False) -> dict[str, Any]:
    """What a client sees that keeps a completion, and asks for it in all ways."""
    world = Deployment(models={"m": ScriptedModel.saying("one")})
    object.__setattr__(world, "state", state)
    seen: dict[str, Any] = {}

    async def main() -> None:
        async with open_engine(world) as engine:
            app = create_app(engine, {}, Settings())
            async with open_house(app, Settings()) as house:
                client = await house.connect()
                await ask_all(client, seen, stream=stream)

    trio.run(main)
    return seen


async def ask_all(client: Client, seen: dict[str, Any], *, stream: bool) -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "store": True,
        "metadata": {"a": "b"},
        "stream": stream,
    }

    async def ask(head: str, body: object = None) -> Reply:
        raw = b"" if body is None else msgspec.json.encode(body)
        return await client.ask(head, raw)

    made = await ask(POST, body)
    seen["made"] = made.status
    at = "/v1/chat/completions"
    listed = await ask(f"GET {at}?metadata[a]=b&limit=5 HTTP/1.1")
    seen["listed"] = listed
    data: Any = listed.json.get("data") or [{"id": "none"}]
    one = f"{at}/{data[0]['id']}"
    rename = f"POST {one} HTTP/1.1\nContent-Type: application/json"
    seen["read"] = await ask(f"GET {one} HTTP/1.1")
    seen["messages"] = await ask(f"GET {one}/messages HTTP/1.1")
    seen["past"] = await ask(f"GET {one}/messages?after=x&order=desc HTTP/1.1")
    seen["renamed"] = await ask(rename, {"metadata": {"c": "d"}})
    seen["unnamed"] = await ask(rename, {"metadata": None})
    seen["misnamed"] = await ask(rename, {"metadata": 3})
    seen["deleted"] = await ask(f"DELETE {one} HTTP/1.1")
    for name, head in (("GET", one), ("GET", f"{one}/messages"), ("DELETE", one)):
        seen.setdefault("gone", []).append((await ask(f"{name} {head} HTTP/1.1")).status)
    seen["gone"].append((await ask(rename, {"metadata": {}})).status)
    seen["bad"] = [(await ask(f"GET {at}?{q} HTTP/1.1")).status for q in BAD]


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_kept_is_listed_read_renamed_and_forgotten(stream: bool) -> None:
    seen = on_the_wire(state=MemoryState(), stream=stream)
    (only,) = seen["listed"].json["data"]
    assert (only["object"], only["metadata"]) == ("chat.completion", {"a": "b"})
    assert only["choices"][0]["message"]["content"] == "one"
    assert seen["read"].json == only
    assert [each["content"] for each in seen["messages"].json["data"]] == ["Hi"]
    assert seen["past"].json["data"] == []
    assert seen["renamed"].json["metadata"] == {"c": "d"}
    assert seen["unnamed"].json["metadata"] == {}
    assert seen["misnamed"].status == 400
    assert seen["deleted"].json["deleted"] is True
    assert (seen["gone"], seen["bad"]) == ([404] * 4, [400] * len(BAD))


def test_where_the_state_is_away_it_was_answered_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = on_the_wire(state=Away())
    assert seen["made"] == 200
    assert "is not stored: StateError" in caplog.text
    asked = ("listed", "read", "messages", "renamed", "deleted")
    assert [seen[name].status for name in asked] == [503] * 5
