"""What every request goes through before its handler, in one order that can be read here.

    1. RequestIds        an id, for every log line and answer
    2. Cors              which web pages may read the answer; a preflight is answered here
    3. Bounds            how long an address, how many headers, how large a body, uncompressed
    4. Authentication    whose key it is; the route says later whether it needs one
    5. OwnPages          where nobody needs a key: that no page of elsewhere asks
    6. Rates             how many requests that caller has left
    7. Spending          whether that caller has money left to begin something with

Then the route is matched, its access is decided, and its handler is called. CORS stands before
authentication, since a preflight has no key and a page must be able to read why it was refused.

Rules of the file: a layer decides and is gone: nothing of it is on the stack while a stream is
open, which may be for hours.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import trio

from orchestra.access.principal import ANYBODY, Principal
from orchestra.errors import BudgetExceededError, LimitReachedError, StateError
from orchestra.server.front import caller_problems, problems
from orchestra.server.front.arrival import KEY, REQUEST_ID, Arrival, Headers, routed
from orchestra.server.front.bearer import bearer
from orchestra.server.front.cors import NO_CORS, Cors
from orchestra.server.front.departure import LEFT
from orchestra.server.front.problems import HttpProblem, NoContent
from orchestra.stores.state.outage import outage_of_keys

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

    from orchestra.access.keyring import Keyring
    from orchestra.access.keys import Refusal
    from orchestra.policies.limits.allowance import Remaining
    from orchestra.policies.limits.callers import CallerLimits
    from orchestra.policies.money.purse import Purse
    from orchestra.server.front.desk import OwnPages, Unlocked
    from orchestra.server.front.problems import Told
    from orchestra.server.front.running import Running
    from orchestra.server.settings import Settings

    Early = HttpProblem | NoContent

log = logging.getLogger("orchestra.server")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_RUN_GOT = re.compile(r"/v1/pipelines/[^/]+/runs")
_PLAIN = "identity"


class Layer(Protocol):
    """One of the things that a request goes through."""

    async def admit(self, arrival: Arrival) -> Early | None:
        """None to let it pass; else the answer, and nobody behind this layer hears of it."""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """Who is let in, and how much of what: with nothing said, everybody, as much as they like.

    `keyring` is None where there are no keys: then everybody is ANYBODY, so that such a server
    must not be reached from elsewhere. So it is while `unlocked`, if that is given; `keyed` is who
    is let in then. `own_pages` keeps pages of elsewhere from asking it. `rates` are counted in
    requests; of `tokens`, which models count in the same state, the answer tells what is left;
    `purse` is money, and `running` counts the runs in flight.
    """

    keyring: Keyring | None = None
    unlocked: Unlocked | None = None
    keyed: Callable[[], Admission] | None = None
    own_pages: OwnPages | None = None
    rates: CallerLimits | None = None
    tokens: CallerLimits | None = None
    purse: Purse | None = None
    running: Running | None = None
    cors: Cors = NO_CORS

    def layers(self, settings: Settings) -> tuple[Layer, ...]:
        """What a request goes through, in this order; what has nothing to decide is left out."""
        return (
            RequestIds(),
            *([self.cors] if self.cors.origins else []),
            Bounds(settings),
            *self.of_callers(),
        )

    def of_callers(self) -> list[Layer]:
        """Those of the layers that look at who it is."""
        found: list[Layer] = []
        if self.unlocked is not None and self.keyed is not None:
            found.append(Unlocking(self.unlocked, self.keyed))
        else:
            found.append(Authentication(self.keyring))
        found += [self.own_pages] if self.own_pages is not None else []
        found += [Rates(self.rates, self.tokens)] if self.rates is not None else []
        found += [Spending(self.purse)] if self.purse is not None else []
        return found


OPEN = Admission()

Encode = Callable[[Arrival, "Early"], "Told"]
Answered = Callable[["Scope", str, int, float], None]
"""Is told of a request that is over its scope, the route that it matched ("": none), the status
of its answer, and how many seconds it took; of a WebSocket's handshake likewise."""


def asked_again(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Those layers that each run goes through which is started over an open connection."""
    return tuple(each for each in layers if isinstance(each, _OF_CALLERS))


class Front:
    """An ASGI application behind its layers. `encode` says how its client reads problems.

    `answered` is told of requests that a layer has answered.
    """

    def __init__(
        self,
        app: ASGIFramework,
        layers: Sequence[Layer],
        encode: Encode,
        answered: Answered | None = None,
    ) -> None:
        self._app = app
        self._layers = tuple(layers)
        self._encode = encode
        self._answered = answered

    def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> Awaitable[None]:
        """Serve one connection of the application behind."""
        if scope["type"] == "lifespan":
            return self._app(scope, receive, send)
        if scope["type"] == "websocket":
            from orchestra.server.front.ws_refusals import telling  # with the first of them

            send = telling(scope, send)
        return self._serve(scope, receive, send)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        arrival = await self._admitted(scope, send)
        if arrival is not None:
            adding = _adding(send, arrival.headers)
            del arrival
            await self._app(scope, receive, adding)

    async def _admitted(self, scope: Any, send: Any) -> Arrival | None:
        began_s = trio.current_time()
        scope["path"] = routed(scope["path"])  # what the layers look at is what is matched
        scope[KEY] = arrival = Arrival(scope)
        for layer in self._layers:
            try:
                early = await layer.admit(arrival)
            except BaseException as error:
                self._tell(scope, 500 if isinstance(error, Exception) else LEFT, began_s)
                raise
            if early is not None:
                told = self._encode(arrival, early)
                await _answer(scope, send, told, arrival.headers)
                self._tell(scope, told.status, began_s)
                return None
        return arrival

    def _tell(self, scope: Any, status: int, began_s: float) -> None:
        """Tell whoever counts of a request that has ended here."""
        if self._answered is not None:
            self._answered(scope, "", status, trio.current_time() - began_s)


class RequestIds:
    """The client's own id where it is well-formed, else a new one; it is in the answer's head."""

    async def admit(self, arrival: Arrival) -> Early | None:
        """None."""
        given = arrival.header(b"x-request-id") or ""
        arrival.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        arrival.tell_id()
        REQUEST_ID.set(arrival.request_id)
        return None


class Bounds:
    """What no request may be larger than. A body of unknown length is bounded where it is read.

    A body that is compressed has no bound that could be told before it is inflated.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def admit(self, arrival: Arrival) -> Early | None:
        """A problem where the address, the headers or the announced body are too large.

        Or where the body is compressed, or has its length told in two ways.
        """
        scope, settings = arrival.scope, self._settings
        if len(scope["raw_path"]) + len(scope["query_string"]) > settings.target_limit_bytes:
            return problems.target_too_long(settings.target_limit_bytes)
        if len(scope["headers"]) > settings.headers_max:
            return problems.too_many_headers(settings.headers_max)
        length = arrival.header(b"content-length") or ""
        if length and arrival.header(b"transfer-encoding"):
            return problems.two_lengths()
        limit = settings.limit_of(arrival.header(b"content-type") or "")
        if length.isascii() and length.isdigit() and int(length[:20]) > limit:
            return problems.too_large(limit)
        if scope.get("method") == "POST":
            coding = arrival.header(b"content-encoding") or _PLAIN
            return None if coding.lower() == _PLAIN else problems.bad_coding(coding)
        return None


class Authentication:
    """Whose key came with the request. One that is not valid is refused; none at all is not."""

    def __init__(self, keyring: Keyring | None) -> None:
        self._keyring = keyring
        self._outage = outage_of_keys()

    async def admit(self, arrival: Arrival) -> Early | None:
        """A problem where a key came that lets nobody in."""
        try:
            found = await self._found(arrival)
        except StateError as error:
            self._outage.failed(error, trio.current_time())
            return caller_problems.keys_unreachable()
        if found is None or isinstance(found, Principal):
            if found is not None:
                self._outage.answered(trio.current_time())
            arrival.principal = found
            return None
        if found.reason != "malformed":  # no text that is no key was looked up
            self._outage.answered(trio.current_time())
        log.info("a key was refused: %s", found.detail)
        return caller_problems.key_refused(found.reason)

    async def _found(self, arrival: Arrival) -> Principal | Refusal | None:
        if self._keyring is None:
            return ANYBODY
        token = bearer(arrival)
        return None if token is None else await self._keyring.authenticate(token)


class Unlocking:
    """Everybody is let in until the first key is made; from then on as those with keys are.

    What that takes is made with the first request then: most servers at a desk never need it.
    """

    def __init__(self, unlocked: Unlocked, keyed: Callable[[], Admission]) -> None:
        self._unlocked = unlocked
        self._keyed = keyed
        self._layers: list[Layer] = []
        self._outage = outage_of_keys()

    async def admit(self, arrival: Arrival) -> Early | None:
        """A problem where there are keys, and a layer of those who have one has a problem."""
        try:
            unlocked = await self._unlocked.still()
        except StateError as error:
            self._outage.failed(error, trio.current_time())
            return caller_problems.keys_unreachable()
        self._outage.answered(trio.current_time())
        if unlocked:
            arrival.principal = ANYBODY
            return None
        if not self._layers:
            self._layers = self._keyed().of_callers()
        for layer in self._layers:
            early = await layer.admit(arrival)
            if early is not None:
                return early
        return None


class Rates:
    """A request is one of those a minute that its caller may make; the answer says what is left.

    Whoever has none left may still cancel what goes on.
    """

    def __init__(self, limits: CallerLimits, tokens: CallerLimits | None = None) -> None:
        self.limits = limits
        self.tokens = tokens

    async def admit(self, arrival: Arrival) -> Early | None:
        """A problem where the caller has no request left."""
        principal = arrival.principal
        if principal is None:
            return None
        try:
            count = await self.limits.count(principal.caller, self.tokens)
        except LimitReachedError as error:
            return caller_problems.your_rate(error)
        arrival.headers += rate_headers(count.nearest)
        why = self.limits.refusal(count) if arrival.scope.get("method") != "DELETE" else None
        return None if why is None else caller_problems.your_rate(why)


class Spending:
    """A caller whose budget is used up is told before anything begins.

    What has begun goes on being theirs: they read it, follow it and cancel it.
    """

    def __init__(self, purse: Purse) -> None:
        self.purse = purse

    async def admit(self, arrival: Arrival) -> Early | None:
        """A problem where a budget has nothing left."""
        if arrival.principal is None or not _may_begin(arrival):
            return None
        try:
            await self.purse.check(arrival.principal.caller)
        except BudgetExceededError as error:
            return caller_problems.your_budget(error)
        except StateError:
            return None  # the call itself is refused, or let pass, as its budget says
        return None


def _may_begin(arrival: Arrival) -> bool:
    """Whether a request may begin what costs something: a post, a socket, or a run that is got.

    Not one that comes back for the rest of a run: it starts none.
    """
    if _RUN_GOT.fullmatch(arrival.path) and arrival.header(b"last-event-id"):
        return False
    match arrival.scope.get("method"):
        case "GET":
            return bool(_RUN_GOT.fullmatch(arrival.path))
        case "POST" | None:
            return True
    return False


_OF_CALLERS = (Authentication, Unlocking, Rates, Spending)


def rate_headers(nearest: Remaining | None) -> Headers:
    """What is left of the limit that is nearest, as most clients read it.

    The three fields of draft-ietf-httpapi-ratelimit-headers-06, with seconds until all of it is
    there again.
    """
    if nearest is None:
        return []
    return [
        (b"ratelimit-limit", b"%d" % nearest.limit),
        (b"ratelimit-remaining", b"%d" % nearest.remaining),
        (b"ratelimit-reset", b"%d" % ceil(nearest.reset_s)),
    ]


def _adding(send: ASGISendCallable, headers: Headers) -> ASGISendCallable:
    """A send that adds these to the head of the answer."""
    return partial(_send_adding, send, headers)


async def _send_adding(send: Any, headers: Headers, message: Any) -> None:
    kind = message["type"]
    if kind in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
        own = {key for key, _ in message.get("headers", ())}
        more = [each for each in headers if each[0] not in own]
        message = {**message, "headers": [*message.get("headers", ()), *more]}
        headers.clear()  # there is one head, and what follows may go on for hours
    await send(message)


async def _answer(scope: Any, send: Any, early: Told, headers: Headers) -> None:
    """Answer at once; the handshake of a WebSocket is refused with the same."""
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    body = early.encode()
    own = [(key.lower().encode(), value.encode("latin1")) for key, value in early.headers]
    if body:
        own += [
            (b"content-type", early.media_type.encode()),
            (b"content-length", b"%d" % len(body)),
        ]
    head = {"type": f"{kind}.start", "status": early.status, "headers": [*own, *headers]}
    await send(head)
    await send({"type": f"{kind}.body", "body": body, "more_body": False})
