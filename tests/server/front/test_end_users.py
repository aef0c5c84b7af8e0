"""End users whom a trusted key names: nobody sees, or pays for, another, at any front."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.access.keyring import Keyring
from orchestra.access.principal import ANYBODY, Principal, Scopes
from orchestra.access.wanted import KeyChanges, NewKey
from orchestra.accounts import Caller, KeyAllowance
from orchestra.engine.engine import open_engine
from orchestra.policies.account import NoAccount
from orchestra.policies.limits.allowance import CallerRules, OwnerLimits
from orchestra.policies.limits.callers import CallerLimits
from orchestra.policies.money.balances import balances
from orchestra.policies.money.budget import Budgets, SpendingLimits
from orchestra.policies.money.purse import Purse
from orchestra.protocols import Change
from orchestra.runs import index
from orchestra.runs.keys import claim_key, head_key
from orchestra.runs.registry import open_registry
from orchestra.runs.settings import RunsSettings
from orchestra.server.app import create_app
from orchestra.server.front.arrival import Arrival
from orchestra.server.front.end_users import END_USER, NAME, identify
from orchestra.server.front.keyless import Unlocked
from orchestra.server.front.layers import Admission
from orchestra.server.settings import Settings
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.world import ScriptedModel, World
from tests.patience import PATIENCE_S
from tests.server.served import PIPELINES
from tests.server.socketing import RefusedError, open_socket
from tests.server.wire import House, Reply, open_house

MUCH = 10**15
ALLOWED = KeyAllowance(day_nanodollars=MUCH)
BACKEND = Principal(Caller("acme", "app", "k", ALLOWED), Scopes(end_users=True))
ORGANISATIONS = st.sampled_from(["a", "a/b", "a%2Fb", "end-user:a"])
USERS = st.none() | st.sampled_from(["b", "c", "b/c", "%2F", "end-user:a"]) | st.from_regex(NAME)


SCOPES = Scopes(frozenset({"p"}), frozenset({"m"}), end_users=True)


def made(organisation: str, user: str | None) -> Principal:
    """Who asks with the key of a backend, on behalf of nobody or of a user."""
    backend = Principal(Caller(organisation, "app", "k", ALLOWED), SCOPES)
    return backend if user is None else backend.for_end_user(user)


@given(ORGANISATIONS, USERS, ORGANISATIONS, USERS)
@example("a", "b/c", "a/b", "c")
@example("a", None, "a", "app")
@example("end-user:a", None, "a", "b")
def test_no_end_user_is_shown_what_another_does(
    one: str, user: str | None, other: str, other_user: str | None
) -> None:
    """Nor is their backend, nor the rest of their organisation."""
    first, second = made(one, user), made(other, other_user)
    same = (one, user) == (other, other_user)
    assert first.sees(second.caller, "p") == same
    assert first.sees(second.caller, "relay", "m") == same
    keys = [{head_key(each.caller), claim_key(each.caller, "p", "k")} for each in (first, second)]
    assert (keys[0] == keys[1]) == same
    assert same or keys[0].isdisjoint(keys[1])
    assert (first.caller.fairness_key == second.caller.fairness_key) == (one == other)
    bounded = [{key.rpartition(":")[0] for key in each} for each in keys]
    assert (bounded[0] == bounded[1]) == (one == other), "an organisation has one bound"


@given(
    st.text(st.characters(max_codepoint=255), max_size=110) | st.from_regex(NAME, fullmatch=True),
    st.booleans(),
    st.booleans(),
)
@example("", True, False)
@example("ada ", True, False)
@example("a,b", True, False)
@example("a/b", True, False)
@example("x" * 100, True, False)
@example("x" * 101, True, False)
def test_a_name_is_heeded_or_refused_and_never_ignored(
    given_name: str, trusted: bool, twice: bool
) -> None:
    value = (END_USER.lower().encode(), given_name.encode("latin1"))
    arrived = Arrival({"path": "/", "headers": [value] * (1 + twice)})
    owner = Principal(BACKEND.caller, Scopes(end_users=trusted))
    early = identify(arrived, owner)
    if not trusted:
        assert early is not None
        assert (early.status, early.code) == (403, "not-allowed")
    elif twice or not re.fullmatch(NAME, given_name):
        assert early is not None
        assert (early.status, early.code) == (400, "bad-end-user")
    else:
        assert early is None
        assert arrived.principal == owner.for_end_user(given_name)
        assert arrived.principal.caller == Caller("acme", given_name, "k", ALLOWED, True)
        return
    assert arrived.principal is None


def test_who_has_no_key_names_nobody() -> None:
    """A public route answers them; any other asks for a key."""
    arrived = Arrival({"path": "/", "headers": [(END_USER.lower().encode(), b"ada")]})
    assert identify(arrived, None) is None
    assert arrived.principal is None
    early = identify(arrived, ANYBODY)
    assert early is not None
    assert early.status == 403


async def no_key() -> bool:
    return False


def test_a_server_that_asks_for_no_keys_yet_refuses_the_name() -> None:
    arrived = Arrival({"path": "/", "headers": [(END_USER.lower().encode(), b"ada")]})
    layer = Unlocked(no_key, Admission)
    early = trio.run(layer.admit, arrived)
    assert early is not None
    assert early.status == 403
    assert arrived.principal is None


@given(st.lists(st.tuples(ORGANISATIONS, USERS, st.integers(1, 1_000)), max_size=12))
def test_each_user_pays_for_themselves_and_the_organisation_for_all_of_them(
    asked: Sequence[tuple[str, str | None, int]],
) -> None:
    limits = SpendingLimits(day=MUCH)
    budgets, state = Budgets(user=limits, organisation=limits), MemoryState()
    purse = Purse(budgets, state)
    paid = Counter[tuple[str, str]]()

    async def main() -> None:
        for organisation, user, cost in asked:
            account = NoAccount()
            account.caller = made(organisation, user).caller
            held = await purse.hold(account, cost, for_s=9.0, model="m")
            assert held is not None
            await held.settle(cost)
            for payer in budgets.of_caller(account.caller):
                name = payer.budgets[0].name
                paid[payer.kind, name] += cost
        for organisation, user, _ in asked:
            caller = made(organisation, user).caller
            mine = [cost for one, name, cost in asked if (one, name) == (organisation, user)]
            ours = [cost for one, _, cost in asked if one == organisation]
            every = [cost for _, _, cost in asked]
            spent = {each.budget.kind: each.spent for each in await told(caller)}
            assert spent == {"key": sum(every), "user": sum(mine), "organisation": sum(ours)}

    async def told(caller: Caller) -> Any:
        return await balances(budgets.of_caller(caller), state)

    trio.run(main)


def test_the_users_of_a_key_have_its_limits_together_and_their_own_each() -> None:
    rules = CallerRules(user=OwnerLimits(requests_per_minute=20)).of_requests()
    allowed = KeyAllowance(requests_per_minute=30)
    backend = Principal(Caller("acme", "", "k", allowed), Scopes(end_users=True))

    async def main() -> list[str]:
        limits = CallerLimits(rules, MemoryState(), scope="http")
        refused: list[str] = []
        for name in ("ann", "ann", "ann", "bob", "bob"):
            count = await limits.count(backend.for_end_user(name).caller)
            refused.append("" if not count.blocked else count.blocked[0].owner.kind)
        return refused

    assert trio.run(main) == ["", "", "user", "", "key"]


def test_a_state_in_memory_has_a_bounded_number_of_an_organisations_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where each has more runs than a page: what is dropped leaves no pages behind."""
    monkeypatch.setattr(index, "LISTED_MAX", 6)
    state = MemoryState()
    heads = [head_key(made("a", f"u{at}").caller) for at in range(9)]
    other = head_key(made("b", "u0").caller)

    def noted(head: str, kept: Sequence[bytes | None], _: float) -> Change[None]:
        return Change(None, index.append(head, kept[0], list(map(str, range(index.PAGE + 1))), 9.0))

    def there(kept: Sequence[bytes | None], _: float) -> Change[bool]:
        return Change(kept[0] is not None)

    async def main() -> list[bool]:
        for head in (other, *heads):
            await state.change([head], partial(noted, head))
        assert len(state._entries) == 6 + 2
        return [await state.change([head], there) for head in (other, *heads)]

    assert trio.run(main) == [True, *[False] * 6, *[True] * 3]


# ------------------------------------------------------------- on the wire

JSON = "Content-Type: application/json"
SAID = [{"role": "user", "content": "Hi"}]
FRONTS: dict[str, tuple[str, dict[str, object]]] = {
    "run": ("POST /v1/pipelines/count/runs", {"inputs": {}}),
    "stream": ("POST /v1/pipelines/count/runs\nAccept: text/event-stream", {"inputs": {}}),
    "query": ("GET /v1/pipelines/count/runs?count=2", {}),
    "chat": ("POST /v1/chat/completions", {"model": "m", "messages": SAID}),
    "chat-stream": ("POST /v1/chat/completions", {"model": "m", "messages": SAID, "stream": True}),
    "response": ("POST /v1/responses", {"model": "m", "input": "Hi"}),
    "message": ("POST /v1/messages", {"model": "m", "messages": SAID, "max_tokens": 9}),
}
WANTED = NewKey(organisation="acme", pipelines=("*",), models=("*",), end_users=True)
COLLEAGUE = NewKey(organisation="acme", pipelines=("*",), models=("*",))
Ask = Callable[..., Awaitable[Reply]]


def serving(main: Callable[[House, Keyring, str, Ask], Awaitable[None]]) -> None:
    """A server of pipelines and models, with the keyring and the key of a backend."""

    async def run() -> None:
        ring, settings = Keyring(MemoryState()), Settings()
        key = (await ring.create(WANTED)).text
        world = World(models={"m": ScriptedModel.saying("one")})
        runs = RunsSettings(batch_s=0.01)
        async with (
            open_registry(MemoryState(), runs, shared=False) as registry,
            open_engine(world) as engine,
        ):
            admission = Admission(keyring=ring)
            app = create_app(engine, PIPELINES, settings, admission, registry=registry)
            async with open_house(app, settings) as house:

                async def ask(
                    head: str, body: object = None, *, user: str | None = None, key: str = key
                ) -> Reply:
                    first, _, rest = head.partition("\n")
                    lines = [f"{first} HTTP/1.1", f"Authorization: Bearer {key}", rest]
                    lines += [] if user is None else [f"{END_USER}: {user}"]
                    lines += [JSON] if body else []
                    data = msgspec.json.encode(body) if body else b""
                    client = await house.connect()
                    return await client.ask("\n".join(filter(None, lines)), data)

                await main(house, ring, key, ask)

    trio.run(run)


async def listed(ask: Ask, user: str | None) -> list[str]:
    found: Any = (await ask("GET /v1/runs", user=user)).json["runs"]
    return [each["id"] for each in found]


async def the_one(ask: Ask, user: str | None) -> str:
    """The only run that they are shown, as soon as it is."""
    with trio.fail_after(PATIENCE_S):
        while True:
            if found := await listed(ask, user):
                (run,) = found
                return run


@pytest.mark.parametrize("front", FRONTS)
def test_what_a_user_asks_for_at_any_front_is_theirs_alone(front: str) -> None:
    async def main(house: House, ring: Keyring, key: str, ask: Ask) -> None:
        head, body = FRONTS[front]
        assert (await ask(head, body, user="ann")).status == 200
        run = await the_one(ask, "ann")
        assert await listed(ask, "bob") == await listed(ask, None) == []
        assert (await ask(head, body)).status == 200
        own = await the_one(ask, None)
        assert own != run
        assert await listed(ask, "ann") == [run]
        for user, status in (("ann", 200), ("bob", 404), (None, 404)):
            assert (await ask(f"GET /v1/runs/{run}", user=user)).status == status
        colleague = (await ring.create(COLLEAGUE)).text
        assert (await ask(f"GET /v1/runs/{run}", key=colleague)).status == 404
        if "/pipelines/" in head:  # a model's is shown to its own key alone
            assert (await ask(f"GET /v1/runs/{own}", key=colleague)).status == 200

    serving(main)


@pytest.mark.parametrize("front", FRONTS)
def test_a_key_that_may_not_name_users_is_told_so_at_any_front(front: str) -> None:
    async def main(house: House, ring: Keyring, key: str, ask: Ask) -> None:
        head, body = FRONTS[front]
        refused = await ask(head, body, user="a/b")
        assert refused.status == 400
        assert "is not one name" in refused.body.decode()
        await ring.change(key, KeyChanges(end_users=False))
        refused = await ask(head, body, user="ann")
        assert refused.status == 403
        assert "orchestra keys create --end-users" in refused.body.decode()
        assert (await ask(head, body)).status == 200
        assert (await ask("GET /v1/runs", user="ann")).status == 403

    serving(main)


def test_a_users_run_is_followed_and_cancelled_by_nobody_else() -> None:
    async def main(house: House, ring: Keyring, key: str, ask: Ask) -> None:
        start = "POST /v1/pipelines/count/runs\nPrefer: respond-async\nIdempotency-Key: same"
        body = {"inputs": {"count": 1, "hold": True}}
        begun = {user: await ask(start, body, user=user) for user in ("ann", "bob", None)}
        assert len({each.json["id"] for each in begun.values()}) == 3, "keys are per user"
        again = await ask(start, body, user="ann")
        run = begun["ann"].json["id"]
        assert again.json["id"] == run
        for user in ("bob", None):
            for what in ("GET /v1/runs/{}", "GET /v1/runs/{}/events", "DELETE /v1/runs/{}"):
                accept = "\nAccept: text/event-stream" if "events" in what else ""
                assert (await ask(what.format(run) + accept, user=user)).status == 404
            resume = f"GET /v1/pipelines/count/runs?count=1\nLast-Event-ID: {run}:1"
            assert (await ask(resume, user=user)).status in (204, 404)
        assert (await ask(f"DELETE /v1/runs/{run}", user="ann")).json["status"] == "cancelled"

    serving(main)


def test_what_is_kept_of_a_user_is_theirs_alone() -> None:
    async def main(house: House, ring: Keyring, key: str, ask: Ask) -> None:
        asked = {"model": "m", "messages": SAID, "store": True}
        kept = (await ask("POST /v1/chat/completions", asked, user="ann")).json["id"]
        response = (await ask("POST /v1/responses", {"model": "m", "input": "Hi"}, user="ann")).json
        places = (f"/v1/chat/completions/{kept}", f"/v1/responses/{response['id']}")
        for place in places:
            for user, status in (("bob", 404), (None, 404), ("ann", 200)):
                assert (await ask(f"GET {place}", user=user)).status == status
        goes_on = {"model": "m", "input": "And?", "previous_response_id": response["id"]}
        assert (await ask("POST /v1/responses", goes_on, user="bob")).status == 400
        assert (await ask("POST /v1/responses", goes_on, user="ann")).status == 200

    serving(main)


def test_a_socket_is_its_users_until_the_key_may_not_name_them() -> None:
    async def main(house: House, ring: Keyring, key: str, ask: Ask) -> None:
        headers = [("Authorization", f"Bearer {key}"), (END_USER, "ann")]
        socket = await open_socket(house, headers=headers)
        await socket.start("one", count=1)
        await socket.events("one")
        await the_one(ask, "ann")
        assert await listed(ask, "bob") == await listed(ask, None) == []
        await ring.change(key, KeyChanges(end_users=False))
        await socket.start("two", count=1)
        told = await socket.receive()
        assert (told["id"], told["problem"]["status"]) == ("two", 403)
        with pytest.raises(RefusedError) as refused:
            await open_socket(house, headers=headers)
        assert refused.value.status == 403

    serving(main)
