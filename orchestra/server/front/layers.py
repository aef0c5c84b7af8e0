"""The layers that every request passes before its handler, in this order.

    1. RequestIds        sets an id, for all logs and the response
    2. Cors              answers preflights, and tells browsers which pages may read the response
    3. Bounds            limits the target, the headers and the body, which may not be compressed
    4. Authentication    finds the key's owner, or the end user whom a trusted key names;
                         the route decides later whether it needs a key
    5. OwnPages          on a server without keys: refuses pages of other origins
    6. Rates             counts the caller's requests against their limit
    7. Spending          refuses to start anything for a caller whose budget is used up

Then the route is matched, its access rule applied, and its handler called. CORS comes before
authentication, since a preflight has no key, and a page must be able to read a refusal.

Rules of the file: a layer decides and returns, so that it is not on the stack while a stream is
open, maybe for hours.
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
from orchestra.server.front.arrival import KEY, REQUEST_ID, Arrival, Headers, routed
from orchestra.server.front.bearer import bearer
from orchestra.server.front.cors import NO_CORS, Cors
from orchestra.server.front.departure import LEFT
from orchestra.server.front.end_users import identify
from orchestra.server.front.tags import RequestTags
from orchestra.server.responses import caller_problems, problems
from orchestra.stores.state.outage import outage_of_keys

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

    from orchestra.access.keyring import Keyring
    from orchestra.access.keys import Refusal
    from orchestra.policies.limits.allowance import Remaining
    from orchestra.policies.limits.callers import CallerLimits
    from orchestra.policies.money.purse import Purse
    from orchestra.server.front.keyless import OwnPages, Unlocked
    from orchestra.server.front.running import Running
    from orchestra.server.responses.problems import Told
    from orchestra.server.settings import Settings

log = logging.getLogger("orchestra.server")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_RUN_GOT = re.compile(r"/v1/pipelines/[^/]+/runs")
_PLAIN = "identity"
_BESIDE = len(b": \r\n")
"""The bytes of a header beside its name and its value."""


class Layer(Protocol):
    """One of the layers that a request passes."""

    async def admit(self, arrival: Arrival) -> Told | None:
        """None to let the request pass; otherwise the response, and later layers are not called."""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of access and limits; by default every caller may do everything.

    `keyring` is None for a server without keys: then every caller is ANYBODY, so the server must
    not be reachable from other machines. With `unlocked`, this holds until the first key is made.
    `own_pages` refuses pages of other origins. `rates` limits requests. `tokens` limits the tokens
    of calls to models, which are counted there: here, responses only report how many are left.
    `purse` has the budgets, and `running` counts the runs in flight.
    """

    keyring: Keyring | None = None
    unlocked: Unlocked | None = None
    own_pages: OwnPages | None = None
    rates: CallerLimits | None = None
    tokens: CallerLimits | None = None
    purse: Purse | None = None
    running: Running | None = None
    cors: Cors = NO_CORS

    def of_requests(self, settings: Settings) -> list[Layer]:
        """The first layers, which do not depend on the caller; CORS only if it allows origins."""
        cors = [self.cors] if self.cors.origins else []
        return [RequestIds(), *cors, Bounds(settings), RequestTags()]

    def of_callers(self) -> list[Layer]:
        """The layers after them; each start of a run over an open WebSocket passes them, too."""
        found: list[Layer] = [self.unlocked or Authentication(self.keyring)]
        found += [self.own_pages] if self.own_pages is not None else []
        found += [Rates(self.rates, self.tokens)] if self.rates is not None else []
        found += [Spending(self.purse)] if self.purse is not None else []
        return found


OPEN = Admission()

Encode = Callable[[Arrival, "Told"], "Told"]
Answered = Callable[["Scope", str, int, float], None]
"""Called after a request with its scope, the matched route ("" for none), the response's status,
and the seconds it took; also after a WebSocket's handshake.
"""


class Front(msgspec.Struct, frozen=True):
    """An ASGI application after its layers. `encode` formats problems for the client.

    `answered` is called only for requests that a layer has answered, or in which one has failed.
    """

    app: ASGIFramework
    layers: Sequence[Layer]
    encode: Encode
    answered: Sequence[Answered] = ()

    def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> Awaitable[None]:
        """Serve one connection with the inner application."""
        if scope["type"] == "websocket":
            from orchestra.server.front.ws_refusals import telling  # imported with the first
            # handshake

            send = telling(scope, send)
        return self._serve(scope, receive, send)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        arrival = await self._admitted(scope, send)
        if arrival is not None:
            adding = partial(_send_adding, send, arrival.headers)
            del arrival
            await self.app(scope, receive, adding)

    async def _admitted(self, scope: Any, send: Any) -> Arrival | None:
        began_s = trio.current_time()
        scope["path"] = routed(scope["path"])  # the layers check the path that is matched
        scope[KEY] = arrival = Arrival(scope)
        for layer in self.layers:
            try:
                early = await layer.admit(arrival)
            except BaseException as error:
                self._tell(scope, 500 if isinstance(error, Exception) else LEFT, began_s)
                raise
            if early is not None:
                response = self.encode(arrival, early)
                await _answer(scope, send, response, arrival.headers)
                self._tell(scope, response.status, began_s)
                return None
        return arrival

    def _tell(self, scope: Any, status: int, began_s: float) -> None:
        """Call `answered` for a request that has ended here."""
        for each in self.answered:
            each(scope, "", status, trio.current_time() - began_s)


class RequestIds:
    """Sets the request's id (the client's own if it is valid), and adds it to the response."""

    async def admit(self, arrival: Arrival) -> Told | None:
        """Set the id; None: every request passes."""
        given = arrival.header(b"x-request-id") or ""
        arrival.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        arrival.tell_id()
        REQUEST_ID.set(arrival.request_id)
        return None


class Bounds:
    """Limits the size of requests. A body of unknown length is limited when it is read.

    Compressed bodies are refused, as their real size is unknown before decompression.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def admit(self, arrival: Arrival) -> Told | None:
        """A problem if the target, the headers or the announced body are too large.

        Also if the body is compressed, or its length is given in two ways.
        """
        scope, settings = arrival.scope, self._settings
        target = len(scope["raw_path"]) + len(scope["query_string"])
        if target > settings.target_limit_bytes:
            return problems.target_too_long(settings.target_limit_bytes)
        if len(scope["headers"]) > settings.headers_max:
            return problems.too_many_headers(settings.headers_max)
        lines = sum(len(name) + len(value) + _BESIDE for name, value in scope["headers"])
        if target + lines > settings.header_limit_bytes:  # h11 bounds only what arrives in parts
            return problems.too_many_headers(settings.header_limit_bytes, "bytes of headers")
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
    """Finds the owner of the key. An invalid key is refused; a request without one passes."""

    def __init__(self, keyring: Keyring | None) -> None:
        self._keyring = keyring
        self._outage = outage_of_keys()

    async def admit(self, arrival: Arrival) -> Told | None:
        """A problem if the request has a key that is not valid."""
        try:
            found = await self._found(arrival)
        except StateError as error:
            self._outage.failed(error, trio.current_time())
            return caller_problems.keys_unreachable()
        if found is None or isinstance(found, Principal):
            if found is not None:
                self._outage.answered(trio.current_time())
            return identify(arrival, found)
        if found.reason != "malformed":  # malformed keys are not looked up
            self._outage.answered(trio.current_time())
        log.info("a key was refused: %s", found.detail)
        return caller_problems.key_refused(found.reason)

    async def _found(self, arrival: Arrival) -> Principal | Refusal | None:
        if self._keyring is None:
            return ANYBODY
        token = bearer(arrival)
        return None if token is None else await self._keyring.authenticate(token)


class Rates:
    """Counts requests against their caller's rate limit; the response reports how many are left.

    A caller who has reached the limit may still cancel runs.
    """

    def __init__(self, limits: CallerLimits, tokens: CallerLimits | None = None) -> None:
        self.limits = limits
        self.tokens = tokens

    async def admit(self, arrival: Arrival) -> Told | None:
        """A problem if the caller has reached a limit."""
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
    """Refuses to start anything for a caller whose budget is used up.

    Such callers may still read, follow and cancel their runs. Whether an idempotency key stands for
    a run is found out later: then the refusal is kept for it.
    """

    def __init__(self, purse: Purse) -> None:
        self.purse = purse

    async def admit(self, arrival: Arrival) -> Told | None:
        """A problem if a budget is used up."""
        if arrival.principal is None or not _may_begin(arrival):
            return None
        try:
            await self.purse.check(arrival.principal.caller)
        except BudgetExceededError as error:
            refusal = caller_problems.your_budget(error)
            if not _may_have_begun(arrival):
                return refusal
            arrival.unless_begun = refusal
        except StateError:
            return None  # the call itself is refused or allowed by its budget's setting
        return None


def _may_begin(arrival: Arrival) -> bool:
    """Whether a request may start something with costs: a POST, a WebSocket, or a run by GET.

    A GET with `Last-Event-ID` resumes a run, and starts nothing.
    """
    if _RUN_GOT.fullmatch(arrival.path) and arrival.header(b"last-event-id"):
        return False
    match arrival.scope.get("method"):
        case "GET":
            return bool(_RUN_GOT.fullmatch(arrival.path))
        case "POST" | None:
            return True
    return False


def _may_have_begun(arrival: Arrival) -> bool:
    """Whether an idempotency key may stand for the run that a request would start: of a POST."""
    posted = arrival.scope.get("method") == "POST" and bool(arrival.header(b"idempotency-key"))
    return posted and bool(_RUN_GOT.fullmatch(arrival.path))


def rate_headers(nearest: Remaining | None) -> Headers:
    """Headers that report what is left of the nearest limit, in the most common form.

    The three fields of draft-ietf-httpapi-ratelimit-headers-06, with the seconds until the limit is
    fully available again.
    """
    if nearest is None:
        return []
    return [
        (b"ratelimit-limit", b"%d" % nearest.limit),
        (b"ratelimit-remaining", b"%d" % nearest.remaining),
        (b"ratelimit-reset", b"%d" % ceil(nearest.reset_s)),
    ]


async def _send_adding(send: Any, headers: Headers, message: Any) -> None:
    """Send a message; if it is the head of a response, add these headers to it."""
    kind = message["type"]
    if kind in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
        own = {key for key, _ in message.get("headers", ())}
        more = [each for each in headers if each[0] not in own]
        message = {**message, "headers": [*message.get("headers", ()), *more]}
        headers.clear()  # there is only one head, and the response may take hours
    await send(message)


async def _answer(scope: Any, send: Any, early: Told, headers: Headers) -> None:
    """Send the response of a layer; a WebSocket's handshake is refused with the same response."""
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
