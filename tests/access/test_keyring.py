"""Keys, played against a model of them: nobody is let in where they do not belong, in any order."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from random import Random
from typing import TypeVar
from unittest import mock

import attrs
import pytest
import trio
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from orchestra.access import changes
from orchestra.access.changes import Made
from orchestra.access.keyring import USE_EVERY_S, Keyring
from orchestra.access.keys import REPLACED_MAX, KeyRecord, Refusal
from orchestra.access.principal import Principal
from orchestra.access.token import Token, id_of, parsed
from orchestra.access.wanted import KeyChanges, NewKey
from orchestra.accounts import Caller, KeyAllowance
from orchestra.errors import StateError, StoreError
from orchestra.policies.limits import allowance
from orchestra.policies.limits.allowance import ENCODING, Ask, Blocked, CallerRules, Owner
from orchestra.protocols import State
from orchestra.stores.state.memory import MemoryState
from orchestra.stores.state.sqlite import SqliteState
from tests.stores.states import HOW, Hand, opened

T = TypeVar("T")
RULES = CallerRules()
"""Of the deployment: none but those that keys come with."""
NAMES = ["answer", "chat", "*"]
SECONDS = st.sampled_from([0.0, 1.0, 2.0, 5.0, 60.0])
LIMITS = {
    "requests_per_minute": st.none() | st.integers(1, 3),
    "concurrency": st.none() | st.integers(1, 2),
}
LISTS = st.lists(st.sampled_from(NAMES), max_size=2).map(tuple)
OTHER = st.builds(
    KeyChanges,
    name=st.none() | st.sampled_from(["", "laptop"]),
    pipelines=st.none() | LISTS,
    models=st.none() | LISTS,
    metrics=st.none() | st.booleans(),
    limits=st.fixed_dictionaries({}, optional=LIMITS),
    lasts_s=st.none() | st.just(float("inf")) | SECONDS.filter(bool),
)
WANTED = st.builds(
    NewKey,
    organisation=st.sampled_from(["", "acme", "other"]),
    user=st.sampled_from(["ada", "bob"]),
    name=st.sampled_from(["", "laptop"]),
    pipelines=st.lists(st.sampled_from(NAMES), min_size=1, max_size=2).map(tuple),
    models=st.lists(st.sampled_from(NAMES), max_size=2).map(tuple),
    metrics=st.booleans(),
    allowance=st.builds(KeyAllowance, **LIMITS),
    lasts_s=st.none() | SECONDS.filter(bool),
)


@attrs.define(eq=False)
class Known:
    """A key as the model knows it: every secret that it ever had, with its end."""

    id: str
    wanted: NewKey
    expires_s: float
    secrets: list[tuple[str, float]]
    revoked: bool = False
    begun_s: list[float] = attrs.field(factory=list)
    leases: list[float] = attrs.field(factory=list)
    used_s: float | None = None
    """When it was last let in."""
    rates: list[tuple[float, int]] = attrs.field(factory=list)
    """Until when it could make how many requests a minute, before it was changed."""

    def rate(self, now_s: float) -> int:
        """How many requests it may have made in this minute."""
        before = [most for until_s, most in self.rates if until_s > now_s - 60.0]
        return max([*before, self.wanted.allowance.requests_per_minute or 999])

    def lets_in(self, text: str, now_s: float) -> str:
        """What the model says of one of its secrets."""
        kept = dict(self.secrets[-1 - REPLACED_MAX :])
        if text not in kept:
            return "unknown"
        if self.revoked:
            return "revoked"
        return "expired" if min(self.expires_s, kept[text]) <= now_s else "in"


class Keys(RuleBasedStateMachine):
    """Any number of keyrings over one state, in any order; each key and each secret is tried."""

    tokens = Bundle("tokens")
    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(mock.patch.object(changes, "PAGE_KEYS", 2))
        self.clock = Hand()
        self.clock.at_s = 1000.0
        self.known: list[Known] = []
        self.states = self.opened()
        chance = Random(0).randbytes  # the same keys each time: Hypothesis compares its runs
        self.rings = [Keyring(state, random_bytes=chance) for state in self.states]

    def opened(self) -> list[State]:
        return [MemoryState(now_s=self.clock)]

    def stored(self) -> bytes:
        """All that is kept, as it lies there."""
        (state,) = self.states
        assert isinstance(state, MemoryState)
        entries = state._entries.values()
        return b" ".join(form.write(kept) if form else kept for kept, _, form in entries)

    def ring(self, which: int) -> Keyring:
        return self.rings[which % len(self.rings)]

    def of(self, text: str) -> Known:
        return next(each for each in self.known if each.id == id_of(text))

    def asked(self, text: str, which: int) -> Principal | Refusal:
        return self.noted(text, run(lambda: self.ring(which).authenticate(text)))

    def noted(self, text: str, found: Principal | Refusal) -> Principal | Refusal:
        if isinstance(found, Principal):
            self.of(text).used_s = self.clock.at_s
        return found

    @initialize()
    def nobody_was_made(self) -> None:
        assert not run(self.rings[-1].any_made)

    @rule(target=tokens, wanted=WANTED, which=st.integers(0, 1))
    def create(self, wanted: NewKey, which: int) -> str:
        made = run(lambda: self.ring(which).create(wanted))
        now_s = self.clock.at_s
        expires_s = now_s + wanted.lasts_s if wanted.lasts_s else float("inf")
        self.known.append(Known(made.record.id, wanted, expires_s, [(made.text, float("inf"))]))
        return made.text

    @rule(target=tokens, text=tokens, grace_s=SECONDS, lasts_s=SECONDS, which=st.integers(0, 1))
    def rotate(self, text: str, grace_s: float, lasts_s: float, which: int) -> object:
        known, now_s = self.of(text), self.clock.at_s
        until_s = min(now_s + grace_s, known.expires_s)
        after = [(each, min(end_s, until_s)) for each, end_s in known.secrets]
        dead = known.revoked or (known.expires_s <= now_s and not lasts_s)
        late = after[:-REPLACED_MAX][-REPLACED_MAX - 1 :]
        if dead or any(end_s > now_s for _, end_s in late):
            with pytest.raises(StoreError):
                self.rotated(known, grace_s, lasts_s, which)
            return multiple()
        made = self.rotated(known, grace_s, lasts_s, which)
        known.secrets = [*after, (made.text, float("inf"))]
        known.expires_s = now_s + lasts_s if lasts_s else known.expires_s
        return made.text

    def rotated(self, known: Known, grace_s: float, lasts_s: float, which: int) -> Made:
        ring, lasts = self.ring(which), lasts_s or None
        return run(lambda: ring.rotate(known.id, grace_s=grace_s, lasts_s=lasts))

    @rule(text=tokens, other=OTHER, which=st.integers(0, 1))
    def change(self, text: str, other: KeyChanges, which: int) -> None:
        """It is another in what is said, and in nothing else; what it has begun still counts."""
        known, now_s, ring = self.of(text), self.clock.at_s, self.ring(which)
        before = known.wanted
        given = attrs.asdict(other, filter=lambda field, value: value is not None)
        said = ("name", "pipelines", "models", "metrics")
        more = {name: given[name] for name in said if name in given}
        after = attrs.evolve(
            before, **more, allowance=attrs.evolve(before.allowance, **other.limits)
        )
        if known.revoked or not (after.pipelines or after.models or after.metrics):
            with pytest.raises(StoreError):
                run(lambda: ring.change(text, other))
            return
        record = run(lambda: ring.change(text, other)).record
        assert record.name == after.name
        assert record.allowance == after.allowance
        known.wanted = after
        known.rates.append((now_s, before.allowance.requests_per_minute or 999))
        if before.allowance.concurrency is None:  # nobody has counted them
            known.leases = []
        if other.lasts_s is not None:
            known.expires_s = now_s + other.lasts_s
        for each, _ in known.secrets:
            self.come(each, which)

    @rule(text=tokens, which=st.integers(0, 1))
    def revoke(self, text: str, which: int) -> None:
        run(lambda: self.ring(which).revoke(text))
        self.of(text).revoked = True

    @rule(seconds=SECONDS | st.sampled_from([USE_EVERY_S - 1, USE_EVERY_S]))
    def time_passes(self, seconds: float) -> None:
        self.clock.at_s += seconds

    @rule(text=tokens, which=st.integers(0, 1))
    def come(self, text: str, which: int) -> None:
        """Whoever comes is let in exactly if the model says so, and as whoever the key says."""
        known, found = self.of(text), self.asked(text, which)
        if isinstance(found, Refusal):
            assert found.reason == known.lets_in(text, self.clock.at_s)
            return
        assert known.lets_in(text, self.clock.at_s) == "in"
        wanted, scopes = known.wanted, found.scopes
        caller = Caller(wanted.organisation, wanted.user, known.id, wanted.allowance)
        assert found.caller == caller
        assert scopes.metrics == wanted.metrics
        for name in (*NAMES, "another"):
            assert scopes.may_run(name) == bool({name, "*"} & set(wanted.pipelines))
            assert scopes.may_ask(name) == bool({name, "*"} & set(wanted.models))
        for each in self.known:
            theirs = each.wanted
            starter = Caller(theirs.organisation, theirs.user, each.id)
            same = theirs.organisation == wanted.organisation
            assert found.sees(starter, "another") == (
                "*" in wanted.pipelines
                and same
                and (bool(wanted.organisation) or theirs.user == wanted.user)
            )

    @rule(text=tokens, at=st.integers(0, 64), wrong=st.characters(), which=st.integers(0, 1))
    def come_with_a_slip(self, text: str, at: int, wrong: str, which: int) -> None:
        assume(text[at] != wrong)
        found = self.asked(text[:at] + wrong + text[at + 1 :], which)
        assert isinstance(found, Refusal)
        assert found.reason == "malformed"

    @rule(text=tokens, other=tokens, which=st.integers(0, 1))
    def come_with_anothers_secret(self, text: str, other: str, which: int) -> None:
        """Under the id of a key no secret helps but its own, and none learns of the key."""
        one, two = parsed(text), parsed(other)
        assert one is not None
        assert two is not None
        assume(one.id != two.id)
        found = self.asked(Token(one.id, two.secret).text, which)
        assert isinstance(found, Refusal)
        assert found.reason == "unknown"

    @rule(target=calls, text=tokens, which=st.integers(0, 1))
    def begin(self, text: str, which: int) -> object:
        """A call begins while its key has room, whichever process and secret it comes with."""
        found = self.asked(text, which)
        if isinstance(found, Refusal):
            return multiple()
        known, now_s = self.of(text), self.clock.at_s
        limits = known.wanted.allowance
        ask = Ask(f"{known.id}.{len(known.begun_s)}.{now_s}", 0, 30.0)
        blocked = self.taken(RULES.owners(found.caller, "models"), ask, which)
        known.leases = [until_s for until_s in known.leases if until_s > now_s]
        if blocked:
            most = limits.concurrency
            full = most is not None and len(known.leases) >= most
            assert full or limits.requests_per_minute is not None
            return multiple()
        known.begun_s.append(now_s)
        known.leases.append(now_s + 30.0)
        assert len(known.leases) <= (limits.concurrency or 999)
        lately = [each for each in known.begun_s if each > now_s - 60.0]
        assert len(lately) <= known.rate(now_s)
        return known, found.caller, ask, now_s + 30.0

    def taken(self, owners: tuple[Owner, ...], ask: Ask, which: int) -> Sequence[Blocked]:
        state = self.states[which % len(self.states)]
        keys = [owner.key for owner in owners]
        return run(lambda: state.revise(keys, partial(allowance.admit, owners, ask), ENCODING))

    @rule(call=consumes(calls), which=st.integers(0, 1))
    def end(self, call: tuple[Known, Caller, Ask, float], which: int) -> None:
        known, caller, ask, until_s = call
        state, owners = self.states[which % len(self.states)], RULES.owners(caller, "models")
        keys = [owner.key for owner in owners]
        ended = partial(allowance.settle, owners, ask, tokens=0, sent=True)
        run(lambda: state.revise(keys, ended, ENCODING))
        if until_s in known.leases:
            known.leases.remove(until_s)

    @invariant()
    def every_secret_that_ever_was_lets_in_exactly_if_the_model_says_so(self) -> None:
        now_s, ring = self.clock.at_s, self.rings[-1]
        said = [
            (text, each.lets_in(text, now_s)) for each in self.known for text, _ in each.secrets
        ]

        async def all_come() -> list[str]:
            found = [await ring.authenticate(text) for text, _ in said]
            for (text, _), each in zip(said, found, strict=True):
                self.noted(text, each)
            return [each.reason if isinstance(each, Refusal) else "in" for each in found]

        assert run(all_come) == [meant for _, meant in said]

    @invariant()
    def the_last_use_of_each_key_is_known_to_the_hour(self) -> None:
        ids = [each.id for each in self.known]
        found = run(lambda: self.rings[-1].last_used(ids))
        for each in self.known:
            if each.used_s is None:
                assert each.id not in found
            else:
                assert 0 <= each.used_s - found[each.id] < USE_EVERY_S

    @invariant()
    def all_keys_are_listed_in_order(self) -> None:
        listed = [key for ring in self.rings for key in run(partial(all_of, ring))]
        assert [key.id for key in listed] == [each.id for each in self.known] * len(self.rings)
        for key, each in zip(listed, self.known, strict=False):
            over = each.expires_s <= self.clock.at_s
            state = "revoked" if each.revoked else "expired" if over else "active"
            assert key.state(self.clock.at_s) == state
        assert run(self.rings[-1].any_made) == bool(self.known)

    def teardown(self) -> None:
        stored = self.stored()
        for each in self.known:
            for text, _ in each.secrets:
                token = parsed(text)
                assert token is not None
                assert token.secret.encode() not in stored
                assert token.id.encode() in stored, "that is where to look"
        self.stack.close()


class KeysOfTwoProcesses(Keys):
    """Two keyrings, as two processes have them, on one file."""

    def opened(self) -> list[State]:
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        path = self.folder / "keys.sqlite"
        return [
            self.stack.enter_context(SqliteState(path, now_s=self.clock, timeout_s=10.0))
            for _ in range(2)
        ]

    def stored(self) -> bytes:
        return b" ".join(path.read_bytes() for path in sorted(self.folder.iterdir()))


def run(work: Callable[[], Awaitable[T]]) -> T:
    return trio.run(work)


async def all_of(ring: Keyring) -> list[KeyRecord]:
    found: list[KeyRecord] = []
    number: int | None = 0
    while number is not None:
        page = await ring.list(number)
        assert len(page.keys) <= changes.PAGE_KEYS
        found += page.keys
        number = page.next
    return found


@pytest.mark.parametrize(
    ("count", "nexts"), [(0, [None]), (127, [None]), (128, [None]), (129, [1, None])]
)
def test_the_last_page_of_keys_says_that_it_is_the_last(
    count: int, nexts: list[int | None]
) -> None:
    """Also where it is full to the last place."""

    async def main() -> None:
        ring = Keyring(MemoryState())
        made = [(await ring.create(ADAS)).record.id for _ in range(count)]
        pages = [await ring.list(number) for number in range(len(nexts))]
        assert [page.next for page in pages] == nexts
        assert [key.id for page in pages for key in page.keys] == made
        assert [key.id for key in (await ring.list_all())[0]] == made

    run(main)


TestKeys = Keys.TestCase
TestKeys.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestKeysOfTwoProcesses = KeysOfTwoProcesses.TestCase
TestKeysOfTwoProcesses.settings = settings(max_examples=5, stateful_step_count=20, deadline=None)


ADAS = NewKey(organisation="acme", user="ada", pipelines=("answer",))


@pytest.mark.parametrize(
    ("lasts_s", "grace_s", "good_s"),
    [(None, 0.0, 0.0), (None, 60.0, 60.0), (30.0, 60.0, 30.0), (30.0, 20.0, 20.0)],
)
def test_an_old_secret_is_good_for_its_grace_and_not_beyond_the_end_that_its_key_had(
    lasts_s: float | None, grace_s: float, good_s: float
) -> None:
    """Also where the rotation has given the key a later end; and the next one may cut it short."""
    clock = Hand()
    clock.at_s = 0.0

    async def main() -> None:
        ring = Keyring(MemoryState(now_s=clock))
        made = await ring.create(attrs.evolve(ADAS, lasts_s=lasts_s))
        await ring.rotate(made.record.id, grace_s=grace_s, lasts_s=1000.0)
        for at_s, good in ((good_s - 1, True), (good_s, False)):
            clock.at_s = max(at_s, 0.0)
            found = await ring.authenticate(made.text)
            assert isinstance(found, Principal) == (good and at_s >= 0)

    run(main)


def test_a_rotation_without_grace_ends_the_secrets_of_earlier_ones() -> None:
    async def main() -> None:
        ring = Keyring(MemoryState())
        made = await ring.create(ADAS)
        rotated = [await ring.rotate(made.record.id, grace_s=60) for _ in range(REPLACED_MAX)]
        texts = [each.text for each in (made, *rotated)]
        for text in texts:
            assert isinstance(await ring.authenticate(text), Principal)
        with pytest.raises(StoreError, match="has 4 secrets that are still valid"):
            await ring.rotate(made.record.id, grace_s=60)
        last = await ring.rotate(made.record.id)
        found = [await ring.authenticate(text) for text in texts]
        assert [each.reason for each in found if isinstance(each, Refusal)] == [
            *("unknown", "expired", "expired", "expired")
        ]
        assert isinstance(await ring.authenticate(last.text), Principal)

    run(main)


def test_a_key_is_let_in_where_its_use_cannot_be_written(tmp_path: Path) -> None:
    """Such as while another process holds the lock of the file."""

    async def main() -> None:
        path = tmp_path / "keys.sqlite"
        with SqliteState(path, timeout_s=2.0) as state:
            ring = Keyring(state)
            made = await ring.create(ADAS)
            with closing(locked(path)):
                for _ in range(2):
                    assert isinstance(await ring.authenticate(made.text), Principal)
                assert await ring.last_used([made.record.id]) == {}

    run(main)


def locked(path: Path) -> sqlite3.Connection:
    """A connection that holds the lock for writing, in the way of all others."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("begin immediate")
    return connection


def test_the_use_of_a_key_is_written_once_an_hour() -> None:
    clock = Hand()
    at_s = clock.at_s

    async def main() -> None:
        ring = Keyring(MemoryState(now_s=clock))
        made = await ring.create(ADAS)
        for after_s, noted_s in ((0, 0), (1, 0), (3599, 0), (3600, 3600), (7199, 3600)):
            clock.at_s = at_s + after_s
            await ring.authenticate(made.text)
            assert await ring.last_used([made.record.id]) == {made.record.id: at_s + noted_s}

    run(main)


@given(st.text(st.characters()) | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_text_at_all_is_refused_and_raises_nothing(text: str) -> None:
    async def main() -> None:
        found = await Keyring(MemoryState()).authenticate(text)
        assert isinstance(found, Refusal)
        assert found.reason == "malformed"

    run(main)


@pytest.mark.parametrize("how", HOW)
def test_keys_that_are_made_at_once_by_two_are_all_there(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where pages of the index are filled meanwhile."""
    monkeypatch.setattr(changes, "PAGE_KEYS", 3)

    async def main() -> None:
        with opened(how) as state:
            rings = [Keyring(state), Keyring(state)]
            made: list[Made] = []

            async def make(ring: Keyring) -> None:
                made.append(await ring.create(ADAS))

            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(make, rings[number % 2])
            listed = await all_of(rings[0])
            assert sorted(key.id for key in listed) == sorted(each.record.id for each in made)
            for each in made:
                assert isinstance(await rings[1].authenticate(each.text), Principal)

    run(main)


def test_an_id_that_is_taken_is_not_taken_from_its_key() -> None:
    """Chance gives nobody to see it: here a source of randomness repeats itself."""
    given_out = iter([b"1" * 40, b"s" * 16, b"1" * 40, b"t" * 16, b"2" * 40, b"u" * 16])

    async def main() -> None:
        ring = Keyring(MemoryState(), random_bytes=lambda _: next(given_out))
        one, two = await ring.create(ADAS), await ring.create(ADAS)
        assert one.record.id != two.record.id
        assert isinstance(await ring.authenticate(one.text), Principal)

    run(main)


def test_randomness_that_always_repeats_itself_makes_no_key() -> None:
    async def main() -> None:
        ring = Keyring(MemoryState(), random_bytes=bytes)
        await ring.create(ADAS)
        with pytest.raises(StateError, match="no key was created"):
            await ring.create(ADAS)

    run(main)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (attrs.evolve(ADAS, organisation="", user=""), "a key needs an owner"),
        (attrs.evolve(ADAS, pipelines=()), "a key needs rights"),
        (attrs.evolve(ADAS, user="a" * 101), "user: a name has 1 to 100 characters, not 101"),
        (attrs.evolve(ADAS, models=("",)), "models: a name has 1 to 100 characters, not 0"),
        (attrs.evolve(ADAS, name="a\nb"), "contains a control character"),
        (attrs.evolve(ADAS, name=" a"), "begins or ends with a space"),
        (attrs.evolve(ADAS, user="Zoe\u0308"), "write it in NFC"),
        (attrs.evolve(ADAS, user="a/b"), "contains a /"),
        (attrs.evolve(ADAS, models=("m",) * 101), "101 names are too many"),
        (attrs.evolve(ADAS, lasts_s=0.0), "lasts_s: 0 s is out of bounds"),
        (attrs.evolve(ADAS, lasts_s=float("nan")), "lasts_s: nan s is out of bounds"),
        (attrs.evolve(ADAS, allowance=KeyAllowance(concurrency=0)), "give 1 to 1000"),
        (attrs.evolve(ADAS, allowance=KeyAllowance(day_nanodollars=-1)), "day_nanodollars: -1"),
    ],
)
def test_a_key_that_may_not_be_made_is_refused_with_what_is_wrong(
    wanted: NewKey, says: str
) -> None:
    async def main() -> None:
        ring = Keyring(MemoryState())
        with pytest.raises(StoreError, match=re.escape(says)):
            await ring.create(wanted)
        assert not await ring.any_made()

    run(main)


def test_what_is_no_key_is_neither_rotated_nor_revoked() -> None:
    async def main() -> None:
        ring = Keyring(MemoryState())
        for act in (ring.rotate, ring.revoke):
            with pytest.raises(StoreError, match="there is no key 0123456789a"):
                await act("0123456789a")
            with pytest.raises(StoreError, match="'laptop' is not the id of a key"):
                await act("laptop")
        with pytest.raises(StoreError, match="grace_s: -1 s is out of bounds"):
            await ring.rotate("0123456789a", grace_s=-1)

    run(main)


@pytest.mark.parametrize("key", ["keys:head", "keys:page:0"])
def test_what_cannot_be_read_is_told_and_nothing_is_written_over_it(key: str) -> None:
    async def main() -> None:
        state = MemoryState()
        ring = Keyring(state)
        await ring.create(ADAS)
        state._entries[key] = (b"?", float("inf"), None)
        for act in (lambda: ring.create(ADAS), ring.list):
            with pytest.raises(StateError, match="cannot be read"):
                await act()
        assert await ring.any_made()

    run(main)
