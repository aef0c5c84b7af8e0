"""The state of policies in a Redis that all hosts share; the clock of Redis is used by all.

A change is optimistic: the stored values are read, `decide` runs here, and one script writes the
result if the values have not changed since. If they have, the script returns the current values,
and `decide` runs again.

Rules of the file:

1. There is one connection, made when it is needed, and used by one batch at a time.
2. After a connection broke, only the commands that begin a batch are sent again, since sending them
   twice changes nothing.
3. After `LATE_MAX` batches in a row without an answer in time, nothing is sent for `REST_S`.
4. If Redis refuses a command, only the calls that need it fail; calls that only read succeed.
5. The mark of the layout is read with every read, and compared before every write. The first write
   creates it.
"""

from __future__ import annotations

import logging
import math
import ssl
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import trio

from orchestra.errors import BindingError, StateError
from orchestra.protocols import Entry
from orchestra.secret import Secret, read_secret
from orchestra.stores.state.grouped import GroupedState
from orchestra.stores.state.grouping import (
    Call,
    Deciding,
    Failed,
    Outcomes,
    Recalling,
    Remembering,
    decide_all,
)
from orchestra.stores.state.layout import Marks, new_mark
from orchestra.stores.state.redis_scripts import RECALL, REMEMBER, SCRIPTS, SWAP
from orchestra.stores.state.settings import LIMIT_BYTES, PORT, TIMEOUT_S

if TYPE_CHECKING:
    from coredis.exceptions import RedisError

    from orchestra.stores.state.redis_connection import Answer, Command, Login, RedisConnection


log = logging.getLogger("orchestra.stores")

PREFIX = "orchestra:"
DECISIONS_MAX = 200
"""The most times that a batch is decided, if other writers are always faster."""
LATE_MAX = 2
"""A single late answer may be due to this process, if its processor is busy."""
REST_S = 0.25
"""How long nothing is sent to a Redis that was too slow; meanwhile every call fails at once."""
TTL_MAX_S = 100 * 365 * 86_400.0
"""Longer times are lowered to this, since Redis refuses to write values with a larger TTL."""
_UNTIL_BYTES = 8  # the length of the expiry time, which is stored before each value


class RedisState(GroupedState):
    """A `State` in a Redis of version 6 or later, alone or with replicas, but not a cluster.

    The connection is made when it is needed, and made again after it broke. Belongs to one
    `trio.run` at a time; close it, or use it in a `with` statement; neither waits. Concurrent calls
    are one batch, which is read in one round trip and written in another.

    With `tls`, the server's certificate is checked. `socket_file` is the path of a Unix socket, in
    place of host and port. If `password` is a path, the password is read from that file for each
    connection, so that a token that expires can be replaced there.

    All keys begin with `prefix`. The values of `remember` and their keys may take `limit_bytes` in
    total, in all processes with this prefix; Redis itself needs about 200 bytes more for each.
    `ahead_s` is added to the time of Redis, for tests.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        *,
        database: int = 0,
        tls: ssl.SSLContext | None = None,
        socket_file: str | None = None,
        user: str | None = None,
        password: Secret | Path | None = None,
        prefix: str = PREFIX,
        limit_bytes: int = LIMIT_BYTES,
        timeout_s: float = TIMEOUT_S,
        ahead_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        # Imported here, since importing coredis takes most of a second.
        from orchestra.stores.state import redis_connection

        self._redis = redis_connection
        self._address = redis_connection.RedisAddress(host, port, tls, socket_file)
        self._user, self._password = user, password
        self._database = database
        self._prefix = prefix
        self._limit_bytes = limit_bytes
        self._ahead_s = ahead_s
        self._connection: RedisConnection | None = None
        self._closed = False
        self._evicts: str | None = None
        self._late = 0
        self._rests_until_s = -math.inf
        at = f"{host}:{port}" if socket_file is None else socket_file
        self._place = f"redis{'s' if tls else ''}://{at}/{database}"
        self._mark = f"{prefix}layout"
        self._marks = Marks(self._place)
        super().__init__(self._place, timeout_s)

    def close(self) -> None:
        """Close the connection; later calls raise StateError."""
        self._closed = True
        self._drop()

    async def _perform(self, calls: Sequence[Call]) -> Outcomes:
        """Perform a batch, and return its outcomes. Raises StateError if the connection breaks."""
        from coredis.exceptions import RedisError

        self._check_open()
        try:
            outcomes = await self._outcomes(calls)
        except (OSError, RedisError, BindingError) as error:
            self._drop()
            raise self._unusable(error) from error
        except trio.Cancelled:  # the timeout has passed; the connection is closed already
            self._late += 1
            if self._late >= LATE_MAX:
                self._rests_until_s = trio.current_time() + REST_S
            raise
        self._late = 0
        return outcomes

    def _unusable(self, error: Exception) -> StateError:
        reason = str(error) or type(error).__name__
        return StateError(
            f"{self._place}: it cannot be used: {reason}{self._group.in_doubt()}. Check Redis, or "
            "change the url"
        )

    def _refused(self, error: RedisError) -> Failed:
        """The outcome of a call whose command Redis has refused."""
        unusable = self._unusable(error)
        unusable.__cause__ = error
        return Failed(unusable)

    def _check_open(self) -> None:
        if self._closed:
            raise StateError(f"{self._place}: the state is closed; open it with RedisState(...)")
        rests_s = self._rests_until_s - trio.current_time()
        if rests_s > 0:
            raise StateError(
                f"{self._place}: it did not answer in time; it is asked again in {rests_s:.3f} s. "
                "Check Redis, or give it a longer timeout_s"
            )

    async def _outcomes(self, calls: Sequence[Call]) -> Outcomes:
        changes = [call for call in calls if isinstance(call, Deciding)]
        others = [call for call in calls if not isinstance(call, Deciding)]
        keys = list(dict.fromkeys(key for call in changes for key in call.keys))
        commands: list[Command] = [self._memory(call) for call in others]
        if changes:
            commands += [["TIME"], ["MGET", self._mark, *map(self._key, keys)]]
        self._group.writing = any(isinstance(call, Remembering) for call in others)
        answers = await self._ask_again(commands)
        remembered = await self._insist(commands[: len(others)], answers[: len(others)])
        values = iter([self._value(answer) for answer in remembered])
        decided: Outcomes = ()
        if changes:
            decided = await self._decided(changes, keys, answers[len(others) :])
        made = iter(decided)
        return [next(made if isinstance(call, Deciding) else values) for call in calls]

    async def _decided(
        self, calls: Sequence[Deciding[Any]], keys: Sequence[str], answers: Sequence[Answer]
    ) -> Outcomes:
        """The outcomes of changes; `answers` are the time, and the mark with the stored values."""
        for answer in answers:
            if self._redis.is_refusal(answer):
                return [self._refused(answer) for _ in calls]
        time, raw = cast("Sequence[Any]", answers)
        return await self._change(calls, keys, raw, self._now_s(time))

    def _value(self, answer: Answer) -> object:
        """The outcome of `recall`, or of `remember`, whose outcome is None."""
        if self._redis.is_refusal(answer):
            return self._refused(answer)
        return answer[_UNTIL_BYTES:] if isinstance(answer, bytes) else None

    def _memory(self, call: Recalling | Remembering) -> Command:
        ahead_s = repr(self._ahead_s())
        if isinstance(call, Recalling):
            return ["EVALSHA", RECALL.digest, 1, self._prefix, call.key, ahead_s]
        size_bytes = len(call.key) + len(call.data)
        return [
            *("EVALSHA", REMEMBER.digest, 1, self._prefix, call.key, call.data, size_bytes),
            *(repr(min(TTL_MAX_S, float(call.ttl_s))), self._limit_bytes, ahead_s),
        ]

    async def _change(
        self,
        calls: Sequence[Deciding[Any]],
        keys: Sequence[str],
        raw: Sequence[bytes | None],
        now_s: float,
    ) -> Outcomes:
        for _ in range(DECISIONS_MAX):
            self._see(raw[0])
            there = dict(zip(keys, (_unexpired(kept, now_s) for kept in raw[1:]), strict=True))
            outcomes, written = decide_all(calls, there, now_s)
            if not written:
                return outcomes
            swap = [self._swap(keys, raw, written, now_s)]
            self._group.writing = True
            (answer,) = await self._insist(swap, await self._ask(swap))
            if self._redis.is_refusal(answer):
                return [self._unwritten(call, there, now_s, answer) for call in calls]
            done, *fresh = cast("Sequence[Any]", answer)
            if done:
                return outcomes
            now_s, raw = self._now_s(fresh[0]), fresh[1]
        raise StateError(
            f"{self._place}: other writers changed the same keys {DECISIONS_MAX} times in a row; "
            "nothing was changed. Use more keys for what is kept under "
            f"{', '.join(map(repr, keys[:5]))}"
        )

    def _unwritten(
        self,
        call: Deciding[Any],
        there: Mapping[str, bytes | None],
        now_s: float,
        error: RedisError,
    ) -> object:
        """The outcome of a call if Redis refuses to write: a failure, unless it only reads."""
        (outcome,), written = decide_all([call], there, now_s)
        return self._refused(error) if written else outcome

    def _swap(
        self,
        keys: Sequence[str],
        raw: Sequence[bytes | None],
        written: Mapping[str, Entry | None],
        now_s: float,
    ) -> Command:
        old = [b"-" if kept is None else b"=" + kept for kept in raw]
        new = [part for entry in written.values() for part in _stored(entry, now_s)]
        names = [self._mark, *map(self._key, keys), *map(self._key, written)]
        if raw[0] is None:
            names, new = [*names, self._mark], [*new, "", new_mark()]
        return ["EVALSHA", SWAP.digest, len(names), *names, len(raw), *old, *new]

    async def _insist(
        self, commands: Sequence[Command], answers: Sequence[Answer]
    ) -> Sequence[Answer]:
        """The answers, after sending refused commands once more if their connection was dropped.

        In that case, Redis has forgotten our scripts or has become a replica, and it has not
        performed the commands.
        """
        refused = [at for at, answer in enumerate(answers) if self._redis.is_refusal(answer)]
        if not refused or self._connection is not None:
            return answers
        found = dict(zip(refused, await self._ask([commands[at] for at in refused]), strict=True))
        return [found.get(at, answer) for at, answer in enumerate(answers)]

    async def _ask_again(self, commands: Sequence[Command]) -> Sequence[Answer]:
        """As `_ask`, but sends the commands once more if the connection of the last batch broke."""
        if self._connection is not None:
            try:
                return await self._ask(commands)
            except OSError:
                self._drop()
        return await self._ask(commands)

    async def _ask(self, commands: Sequence[Command]) -> Sequence[Answer]:
        if self._connection is None or self._connection.closed:
            self._connection = await self._redis.connected(
                self._address, self._login(), self._greeting()
            )
            await self._look_at(self._connection)
        answers = await self._connection.ask(commands)
        errors = [answer for answer in answers if self._redis.is_refusal(answer)]
        if not all(map(self._redis.only_unwritten, errors)):
            self._drop()
        return answers

    def _see(self, mark: bytes | None) -> None:
        try:
            self._marks.see(mark)
        except StateError:
            self._drop()  # so that the next call checks the layout again
            raise

    async def _look_at(self, connection: RedisConnection) -> None:
        """Check the layout, and warn if Redis evicts budgets and keys when its memory is full.

        A Redis that does not tell its eviction policy is assumed to evict nothing.
        """
        mark, info = await connection.ask([["GET", self._mark], ["INFO", "memory"]])
        rule = evicts(info)
        if rule not in (None, self._evicts):
            log.warning(
                "%s evicts data when its memory is full (maxmemory-policy %s), so budgets and keys "
                "may be lost; set maxmemory-policy to noeviction",
                self._place,
                rule,
            )
        self._evicts = rule
        if not self._redis.is_refusal(mark):  # if it is refused here, the next command is, too
            self._see(cast("bytes | None", mark))

    def _login(self) -> Login | None:
        if self._password is None:
            return None
        if isinstance(self._password, Path):
            return self._redis.Login(self._user, read_secret(self._password, "password"))
        return self._redis.Login(self._user, self._password)

    def _greeting(self) -> Sequence[Command]:
        scripts = [["SCRIPT", "LOAD", each.text] for each in SCRIPTS]
        return [["SELECT", self._database], *scripts]

    def _now_s(self, time: Sequence[bytes]) -> float:
        return int(time[0]) + int(time[1]) / 1e6 + self._ahead_s()

    def _key(self, key: str) -> str:
        return f"{self._prefix}s:{key}"

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def evicts(info: Answer) -> str | None:
    """The eviction policy of a Redis, from its memory info; None if it evicts nothing."""
    lines = info.decode(errors="replace").splitlines() if isinstance(info, bytes) else []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    bounded = fields.get("maxmemory", "0") != "0"
    rule = fields.get("maxmemory_policy", "noeviction")
    return rule if bounded and rule != "noeviction" else None


def _unexpired(kept: bytes | None, now_s: float) -> bytes | None:
    if kept is None or len(kept) < _UNTIL_BYTES:  # our own values are never shorter
        return None
    return kept[_UNTIL_BYTES:] if struct.unpack_from(">d", kept)[0] > now_s else None


def _stored(entry: Entry | None, now_s: float) -> tuple[str, bytes]:
    """The arguments of `SWAP` for an entry: its TTL and its stored value.

    The TTL is in milliseconds, "" to keep the entry for ever, or "-" to delete it.
    """
    if entry is None or (entry.ttl_s is not None and entry.ttl_s <= 0):
        return "-", b""
    if entry.ttl_s is None:
        return "", struct.pack(">d", math.inf) + entry.data
    ttl_s = min(TTL_MAX_S, entry.ttl_s)
    return str(math.ceil(ttl_s * 1000)), struct.pack(">d", now_s + ttl_s) + entry.data
