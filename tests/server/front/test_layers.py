"""The front: every request goes through the same layers, in one order, before its handler."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.access.keyring import Keyring
from orchestra.access.principal import ANYBODY, Principal, Scopes
from orchestra.access.token import ENTROPY_BYTES, minted
from orchestra.accounts import Caller
from orchestra.codecs.serving.errors import NO_RETRY
from orchestra.engine.engine import open_engine
from orchestra.errors import StateError
from orchestra.observe.counting import Counting
from orchestra.observe.metrics import Metrics
from orchestra.policies.account import NoAccount
from orchestra.policies.limits.allowance import CallerRules, OwnerLimits
from orchestra.policies.limits.callers import CallerLimits
from orchestra.policies.money.budget import Budgets, SpendingLimits
from orchestra.policies.money.purse import Purse
from orchestra.protocols import WhenStateFails
from orchestra.server.app import create_app
from orchestra.server.front.access import may_run
from orchestra.server.front.arrival import Arrival
from orchestra.server.front.bearer import bearer
from orchestra.server.front.cors import EXPOSED, HEADERS, Cors
from orchestra.server.front.departure import LEFT
from orchestra.server.front.keyless import Unlocked
from orchestra.server.front.layers import (
    Admission,
    Authentication,
    Bounds,
    Front,
    Layer,
    Rates,
    RequestIds,
    Spending,
)
from orchestra.server.responses import problems
from orchestra.server.responses.caller_problems import CHALLENGE
from orchestra.server.responses.problems import Encoded, HttpProblem
from orchestra.server.settings import Settings
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.virtual import virtual
from tests.server.served import PIPELINES
from tests.server.test_sse import dispatched
from tests.server.wire import open_house

WELL_FORMED = re.compile(r"[A-Za-z0-9._:-]{1,128}")
NAMES = st.text(min_size=1, max_size=5)
KEY = minted(bytes(range(ENTROPY_BYTES))).text


def arrival(
    headers: Mapping[str, str] | None = None, principal: Principal | None = None, **scope: Any
) -> Arrival:
    pairs = [(k.lower().encode(), v.encode("latin1")) for k, v in (headers or {}).items()]
    usual = {"type": "http", "method": "GET", "path": "/v1/runs", "raw_path": b"/v1/runs"}
    return Arrival({**usual, "query_string": b"", "headers": pairs, **scope}, principal=principal)


def told(arrived: Arrival) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in arrived.headers}


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.binary(max_size=2)), max_size=5))
def test_of_several_headers_with_a_name_the_first_counts_until_they_are_forgotten(
    received: list[tuple[bytes, bytes]],
) -> None:
    arrived = Arrival({"headers": received})
    for name in (b"a", b"b"):
        first = next((value for key, value in received if key == name), None)
        assert arrived.header(name) == (None if first is None else first.decode("latin1"))
    arrived.forget_headers()
    assert arrived.header(b"a") is None


@given(st.text(st.characters(max_codepoint=255), max_size=140))
def test_a_request_has_one_id_the_clients_own_where_it_is_well_formed(given_id: str) -> None:
    arrived = arrival({"X-Request-ID": given_id})
    assert trio.run(RequestIds().admit, arrived) is None
    assert WELL_FORMED.fullmatch(arrived.request_id)
    assert told(arrived) == {"cache-control": "no-store", "x-request-id": arrived.request_id}
    assert (arrived.request_id == given_id) == bool(WELL_FORMED.fullmatch(given_id))


def test_two_requests_without_an_id_have_two() -> None:
    first, second = arrival(), arrival()
    trio.run(RequestIds().admit, first)
    trio.run(RequestIds().admit, second)
    assert first.request_id != second.request_id


@given(st.integers(0, 300), st.integers(0, 120), st.integers(0, 3000))
def test_what_is_over_a_bound_is_refused_and_what_is_not_passes(
    target: int, headers: int, body: int
) -> None:
    settings = Settings(target_limit_bytes=200, headers_max=100, body_limit_bytes=2000)
    arrived = arrival(raw_path=b"/" * target)
    arrived.scope["headers"].extend([(b"x", b"y")] * headers)
    arrived.scope["headers"].append((b"content-length", str(body).encode()))
    early = trio.run(Bounds(settings).admit, arrived)
    statuses = [414] * (target > 200) + [431] * (headers + 1 > 100) + [413] * (body > 2000)
    assert (early.status if early else None) == (statuses[0] if statuses else None)


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", None])
@pytest.mark.parametrize(
    "coding", [None, "", "identity", "Identity", "gzip", "br", "gzip, identity"]
)
def test_a_body_that_is_compressed_is_not_read(method: str | None, coding: str | None) -> None:
    headers = {} if coding is None else {"Content-Encoding": coding}
    early = trio.run(Bounds(Settings()).admit, arrival(headers, method=method))
    if method == "POST" and (coding or "identity").lower() != "identity":
        assert isinstance(early, HttpProblem)
        assert (early.status, early.code) == (415, "bad-content-encoding")
        assert early.headers == (("Accept-Encoding", "identity"),)
    else:
        assert early is None


@given(
    st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=60)), max_size=9),
    st.integers(0, 200),
)
def test_headers_are_bounded_however_fast_they_arrive(
    more: list[tuple[bytes, bytes]], target: int
) -> None:
    """Only a head that arrives in parts is bounded by h11."""
    arrived = arrival(raw_path=b"/" * target)
    arrived.scope["headers"].extend(more)
    early = trio.run(Bounds(Settings(header_limit_bytes=150)).admit, arrived)
    size = target + sum(len(b"%b: %b\r\n" % each) for each in more)
    assert early == (problems.too_many_headers(150, "bytes of headers") if size > 150 else None)


@given(st.lists(st.sampled_from(["Bearer a", "Bearer b", "Basic c"]), min_size=2, max_size=3))
def test_whoever_sends_several_keys_has_none(given_keys: list[str]) -> None:
    """A proxy in front might have checked another of them."""
    arrived = arrival()
    arrived.scope["headers"].extend((b"authorization", each.encode()) for each in given_keys)
    assert bearer(arrived) == ""
    of_anthropic = arrival({"Anthropic-Version": "2023-06-01"})
    of_anthropic.scope["headers"].extend((b"x-api-key", each.encode()) for each in given_keys)
    assert bearer(of_anthropic) == ""


@given(st.text(st.characters(max_codepoint=255)))
def test_any_authorization_at_all_is_a_key_or_unreadable(text: str) -> None:
    found = bearer(arrival({"Authorization": text}))
    assert found == "" or re.fullmatch(r"\S+", found or "")


def test_where_there_are_no_keys_everybody_is_anybody() -> None:
    arrived = arrival({"Authorization": "Bearer whatever"})
    assert trio.run(Authentication(None).admit, arrived) is None
    assert arrived.principal == ANYBODY


class Flickering(MemoryState):
    """A state that is away while somebody says so."""

    away = False

    async def look(self, *args: Any, **kwargs: Any) -> Any:
        if self.away:
            raise StateError("it is away; look for it")
        return await super().look(*args, **kwargs)


@pytest.mark.parametrize("unlocked", [False, True])
def test_an_outage_of_the_keys_is_told_when_it_begins_and_when_it_is_over(
    unlocked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """And not once for each request that is refused meanwhile."""
    state = Flickering()
    keyring = Keyring(state)
    layer: Layer = Authentication(keyring)
    if unlocked:
        layer = Unlocked(keyring.any_made, Admission)

    async def main() -> list[int | None]:
        statuses = []
        for state.away in (False, True, True, True, False, False, True):
            await trio.sleep(10)  # in virtual time: what was seen is trusted for a moment
            arrived = arrival({"Authorization": f"Bearer {KEY}"})
            early = await layer.admit(arrived)
            statuses.append(early.status if early else None)
        return statuses

    usual = None if unlocked else 401
    assert virtual(main) == [usual, 503, 503, 503, usual, usual, 503]
    said = [record.getMessage() for record in caplog.records if record.levelname != "INFO"]
    assert [each.partition(",")[0] for each in said] == [
        "keys cannot be looked up",
        "keys can be looked up again",
        "keys cannot be looked up",
    ]


@pytest.mark.parametrize("shown", [None, "Bearer ork_", "Bearer sk-else"])
def test_who_shows_no_key_ends_no_outage_of_the_keys(
    shown: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """As a probe: nothing was looked up for it."""
    state = Flickering()
    layer = Authentication(Keyring(state))
    keyed, other = {"Authorization": f"Bearer {KEY}"}, {"Authorization": shown} if shown else {}

    async def main() -> None:
        state.away = True
        for head in (keyed, other, keyed, other):
            await layer.admit(arrival(head))

    trio.run(main)
    told = [each.getMessage() for each in caplog.records if each.levelname != "INFO"]
    assert [each.partition(",")[0] for each in told] == ["keys cannot be looked up"]


@given(st.frozensets(NAMES), st.frozensets(NAMES), NAMES)
def test_scopes_let_in_what_they_name_and_nothing_else(
    pipelines: frozenset[str], models: frozenset[str], name: str
) -> None:
    principal = Principal(Caller("acme"), Scopes(pipelines - {"*"}, models - {"*"}))
    refused = may_run(principal, {"name": name})
    assert (refused is None) == (name in pipelines - {"*"})
    assert principal.scopes.may_ask(name) == (name in models - {"*"})


@given(st.sampled_from(["", "a", "b"]), st.sampled_from(["", "u", "v"]), st.data())
def test_a_run_is_seen_by_who_started_it_and_by_their_organisation(
    organisation: str, user: str, data: st.DataObject
) -> None:
    starter = Caller(organisation, user)
    other = Caller(
        data.draw(st.sampled_from(["", "a", "b"])), data.draw(st.sampled_from(["", "u"]))
    )
    same = other.organisation == organisation if organisation else other == starter
    may_run, may_ask = Scopes(pipelines=frozenset({"p"})), Scopes(models=frozenset({"m"}))
    assert Principal(other, may_run).sees(starter, "p") == same
    assert not Principal(other, Scopes()).sees(starter, "p")
    assert not Principal(other, may_ask).sees(starter, "m")
    assert Principal(other, may_ask).sees(starter, "relay", "m") == (other == starter)
    assert not Principal(other, may_ask).sees(starter, "relay", "n")


PUBLIC = {"live", "ready", "docs"}
"""What strangers may ask, by names of routes: no other becomes public without being named here."""


async def _statuses(admission: Admission) -> dict[str, int]:
    """What a stranger is answered at every route there is that is not for everybody."""
    settings, statuses = Settings(), dict[str, int]()
    async with open_engine() as engine:
        app = create_app(engine, PIPELINES, settings, admission, counting=Counting(Metrics({})))
        async with open_house(app.asgi_app, settings) as house:
            for route in app._routes.values():
                path = re.sub(r"<[^>]*>", "count", route.path)
                for method in route.methods if route.name not in PUBLIC else ():
                    client = await house.connect()
                    reply = await client.ask(f"{method} {path} HTTP/1.1\nContent-Length: 0")
                    statuses[f"{method} {route.name}"] = reply.status
    return statuses


def test_a_stranger_is_let_in_nowhere_but_where_a_route_is_public() -> None:
    class Nobody:
        async def authenticate(self, token: str) -> object:
            raise AssertionError(f"no token came, and {token} was looked up")

    admission = Admission(keyring=Nobody())  # type: ignore[arg-type]
    statuses = trio.run(_statuses, admission)
    assert {"GET metrics", "GET openapi", "POST start-run"} <= statuses.keys()
    assert set(statuses.values()) == {401}


def test_without_keys_nobody_is_asked_for_one() -> None:
    assert 401 not in trio.run(_statuses, Admission()).values()


def test_a_request_more_than_the_caller_may_send_is_told_when_to_come_again() -> None:
    rules = CallerRules(user=OwnerLimits(requests_per_minute=10)).of_requests()
    layer = Rates(CallerLimits(rules, MemoryState(), scope="http"))
    ada = Principal(Caller(user="ada"), Scopes())

    async def ask(count: int) -> list[tuple[int | None, dict[str, str]]]:
        answers = []
        for _ in range(count):
            arrived = arrival(principal=ada)
            early = await layer.admit(arrived)
            answers.append((early.status if early else None, told(arrived)))
            if isinstance(early, HttpProblem):
                assert dict(early.headers)["Retry-After"] == "6"
                assert early.code == "rate-limited"
                assert "and a request over HTTP does not wait;" in early.detail
        return answers

    async def cancel() -> int | None:
        early = await layer.admit(arrival(principal=ada, method="DELETE", path="/v1/runs/r1"))
        return early.status if early else None

    first, second = trio.run(ask, 2)
    assert trio.run(cancel) is None
    assert (first[0], second[0]) == (None, 429)
    assert first[1]["ratelimit-limit"] == second[1]["ratelimit-limit"] == "10"
    assert second[1]["ratelimit-remaining"] == "0"


def test_a_limit_that_cannot_be_looked_up_refuses_where_it_says_so() -> None:
    """With what is wrong here, and not as if the caller had asked too much."""

    class Gone(MemoryState):
        async def revise(self, keys: Any, decide: Any, encoding: Any) -> Any:
            raise StateError("gone")

    ada = Principal(Caller(user="ada"), Scopes())

    async def main(fails: WhenStateFails) -> Any:
        limits = OwnerLimits(requests_per_minute=10, when_state_fails=fails)
        rules = CallerRules(user=limits).of_requests()
        return await Rates(CallerLimits(rules, Gone(), scope="http")).admit(arrival(principal=ada))

    assert trio.run(main, "open") is None
    early = trio.run(main, "closed")
    assert (early.status, early.code) == (503, "state-unreachable")


def test_what_is_left_of_tokens_is_told_where_that_is_nearer() -> None:
    rules, state = CallerRules(user=OwnerLimits(tokens_per_minute=1000)), MemoryState()
    tokens = CallerLimits(rules, state)
    layer = Rates(CallerLimits(rules.of_requests(), state, scope="http"), tokens)
    ada = Principal(Caller(user="ada"), Scopes())

    async def ask() -> dict[str, str]:
        await tokens.enter(ada.caller, tokens=60)
        arrived = arrival(principal=ada)
        assert await layer.admit(arrived) is None
        return told(arrived)

    headers = trio.run(ask)
    assert (headers["ratelimit-limit"], headers["ratelimit-remaining"]) == ("1000", "40")


@given(st.sampled_from(["https://a.example", "https://b.example", "null", ""]), st.booleans())
def test_a_page_of_an_origin_that_is_named_may_read_and_no_other(
    origin: str, preflight: bool
) -> None:
    layer = Cors(origins=frozenset({"https://a.example"}))
    asked = {"Access-Control-Request-Method": "POST"} if preflight else {}
    arrived = arrival({"Origin": origin, **asked}, method="OPTIONS" if preflight else "POST")
    early = trio.run(layer.admit, arrived)
    allowed = told(arrived).get("access-control-allow-origin")
    assert allowed == ("https://a.example" if origin == "https://a.example" else None)
    assert isinstance(early, Encoded) == (preflight and allowed is not None)
    assert told(arrived)["vary"] == "Origin"


@given(st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)), st.booleans())
def test_a_page_of_such_an_origin_may_send_the_headers_of_its_client(
    names: list[str], named: bool
) -> None:
    """OpenAI's own client has some; what is no list of names is given back to nobody."""
    asked = ", ".join(names)
    for sent, allowed in ((asked, len(asked) <= 2048), (f"{asked}, x y", False), (",a", False)):
        headers = {
            "Origin": "https://a.example" if named else "https://b.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": sent,
        }
        layer = Cors(origins=frozenset({"https://a.example"}))
        early = trio.run(layer.admit, arrival(headers, method="OPTIONS"))
        assert isinstance(early, Encoded) == named
        if isinstance(early, Encoded):
            assert early.encode() == b""
            told = dict(early.headers)["Access-Control-Allow-Headers"]
            found = told.lower().split(", ")
            assert "authorization" in found
            assert len(found) == len(set(found))
            assert {each.lower() for each in names} <= {*found} or not allowed
            assert allowed or told == HEADERS


@pytest.mark.parametrize("name", [CHALLENGE[0][0], NO_RETRY[0], "Retry-After", "X-Request-ID"])
def test_what_an_error_says_in_its_head_can_be_read_by_a_page(name: str) -> None:
    """OpenAI's client in a browser sent again what it was told not to send again."""
    assert name.lower() in EXPOSED.lower().split(", ")


def test_any_origin_is_told_as_any() -> None:
    arrived = arrival({"Origin": "https://x.example"})
    trio.run(Cors(origins=frozenset({"*"})).admit, arrived)
    assert told(arrived)["access-control-allow-origin"] == "*"


def test_a_refused_request_is_answered_with_its_id_and_never_reaches_the_application() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it was reached")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    layers = Admission().of_requests(Settings(headers_max=1))
    front = Front(app, layers, lambda _, early: early)
    scope: Any = dict(arrival({"A": "1", "X-Request-ID": "mine"}).scope)

    async def serve() -> None:
        await front(scope, trio.sleep_forever, send)

    trio.run(serve)
    assert sent[0]["status"] == 431
    assert (b"x-request-id", b"mine") in sent[0]["headers"]


class Failing:
    """A layer that waits, and then fails in a way that nobody has foreseen."""

    async def admit(self, arrival: Arrival) -> None:
        """Never None."""
        del arrival
        await trio.sleep(1)
        raise RuntimeError("unforeseen")


@pytest.mark.parametrize(("ends_s", "status"), [(9.0, 500), (0.5, LEFT)])
def test_what_ends_within_a_layer_is_told_too(ends_s: float, status: int) -> None:
    """A layer that fails, and a server that stops while one waits."""
    told: list[tuple[str, int, float]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it was reached")

    def answered(_: Any, route: str, status: int, lasted_s: float) -> None:
        told.append((route, status, lasted_s))

    async def send(message: Any) -> None:
        raise AssertionError(f"it was answered with {message}")

    front = Front(app, [Failing()], lambda _, early: early, [answered])
    scope: Any = dict(arrival({}).scope)

    async def serve() -> None:
        with trio.move_on_after(ends_s), contextlib.suppress(RuntimeError):
            await front(scope, trio.sleep_forever, send)

    virtual(serve)
    assert told == [("", status, min(ends_s, 1.0))]


def test_every_answer_has_the_id_of_its_request_and_so_has_each_event_of_its_run() -> None:
    async def run() -> None:
        async with open_engine() as engine:
            app = create_app(engine, PIPELINES, Settings())
            async with open_house(app.asgi_app, Settings()) as house:
                client = await house.connect()
                ask = "GET /v1/pipelines/count/runs?count=1 HTTP/1.1\nX-Request-ID: r-1\n"
                reply = await client.ask(ask + "Accept: text/event-stream")
                assert reply.headers["x-request-id"] == "r-1"
                events = [json.loads(event.data) for event in dispatched(reply.body)]
                assert len(events) > 3
                assert {event["request_id"] for event in events} == {"r-1"}

    trio.run(run)


@pytest.mark.parametrize("length", ["0", "5", "60"])
@pytest.mark.parametrize("path", ["/v1/pipelines/count/runs", "/v1/chat/completions", "/healthz"])
def test_a_body_whose_length_is_told_twice_is_the_last_of_its_connection(
    length: str, path: str
) -> None:
    """A proxy that went by the other length would give the answer to what is behind to another."""

    async def run() -> None:
        async with open_engine() as engine:
            app = create_app(engine, PIPELINES, Settings())
            async with open_house(app.asgi_app, Settings()) as house:
                client = await house.connect()
                ask = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                both = f"Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                smuggled = "GET /v1/pipelines HTTP/1.1\r\nHost: a\r\n\r\n"
                await client.stream.send_all((ask + both + smuggled).encode())
                said = await client.rest()
                assert said.startswith(b"HTTP/1.1 400 ")
                assert said.count(b"HTTP/1.1 ") == 1
                assert b"pipelines" not in said

    trio.run(run)


class Adas(NoAccount):
    """The account of a run of hers."""

    caller = Caller(user="ada")


def test_a_caller_whose_budget_is_used_up_is_told_before_anything_begins() -> None:
    budgets = Budgets(user=SpendingLimits(day=1000))
    purse = Purse(budgets, MemoryState())
    layer = Spending(purse)
    ada, bob = Caller(user="ada"), Caller(user="bob")

    async def spend() -> list[int | None]:
        answers = []
        for caller, cost in ((ada, 999), (ada, 1), (ada, 0), (bob, 0), (None, 0)):
            principal = None if caller is None else Principal(caller, Scopes())
            early = await layer.admit(arrival(principal=principal, method="POST"))
            answers.append(early.status if early else None)
            told = "" if early is None else early.encode().decode()
            assert not told or "and nothing is left; it resets at" in told
            assert "cheaper" not in told, "no call of any price would fit"
            if cost:
                held = await purse.hold(Adas(), cost, for_s=10, model="m")
                assert held is not None
                await held.settle(cost)
        return answers

    assert trio.run(spend) == [None, None, 402, None, None]


def test_a_budget_that_calls_hold_is_not_used_up() -> None:
    """Most of it comes back; a call that has no room now is told when to try again."""
    purse = Purse(Budgets(user=SpendingLimits(day=1000)), MemoryState())

    async def ask() -> object:
        await purse.hold(Adas(), 1000, for_s=10, model="m")
        ada = Principal(Caller(user="ada"), Scopes())
        return await Spending(purse).admit(arrival(principal=ada, method="POST"))

    assert trio.run(ask) is None


BEGINS = [
    ("POST", "/v1/pipelines/answer/runs"),
    ("GET", "/v1/pipelines/answer/runs"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    (None, "/v1/pipelines/answer/ws"),
]
GOES_ON = [
    ("DELETE", "/v1/runs/r1"),
    ("GET", "/v1/runs/r1"),
    ("GET", "/v1/runs/r1/events"),
    ("GET", "/v1/runs"),
    ("GET", "/v1/models"),
    ("GET", "/openapi.json"),
]


COMES_BACK = {"Last-Event-ID": "4"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "begins"),
    [
        *((*each, {}, True) for each in BEGINS),
        *((*each, {}, False) for each in GOES_ON),
        *((*each, COMES_BACK, False) for each in BEGINS[:2]),
        *((*each, COMES_BACK, True) for each in BEGINS[2:]),
        ("POST", "/v1/pipelines/answer/runs", {"Last-Event-ID": ""}, True),
    ],
)
def test_a_used_up_budget_keeps_nobody_from_what_has_begun(
    method: str | None, path: str, headers: dict[str, str], *, begins: bool
) -> None:
    purse = Purse(Budgets(user=SpendingLimits(day=1)), MemoryState())

    async def ask() -> object:
        held = await purse.hold(Adas(), 1, for_s=10, model="m")
        assert held is not None
        await held.settle(1)
        ada = Principal(Caller(user="ada"), Scopes())
        asked = arrival(principal=ada, method=method, path=path, headers=headers)
        return await Spending(purse).admit(asked)

    assert (trio.run(ask) is not None) is begins


def test_a_state_that_is_away_is_no_used_up_budget() -> None:
    """The call itself is refused then, or let pass, as its budget says."""

    class Away(MemoryState):
        async def change(self, keys: Any, decide: Any) -> Any:
            raise StateError("it is away; look for it")

        async def revise(self, keys: Any, decide: Any, form: Any) -> Any:
            raise StateError("it is away; look for it")

    layer = Spending(Purse(Budgets(user=SpendingLimits(day=1)), Away()))
    ada = Principal(Caller(user="ada"), Scopes())
    assert trio.run(layer.admit, arrival(principal=ada, method="POST")) is None
