"""`[limits]`: what each caller may take, in the file and obeyed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Never, TypeVar, cast

import attrs
import pytest
import trio
import trio.testing

from orchestra.accounts import Caller, KeyAllowance
from orchestra.answers import Completion
from orchestra.config import LocalBindings
from orchestra.config.assembly import Assembly
from orchestra.config.reading import read
from orchestra.config.toml.spec import OWNER
from orchestra.errors import ConfigError, LimitReachedError, StateError
from orchestra.policies.account import PRESENT, NoAccount
from orchestra.policies.limits.allowance import CallerRules, OwnerLimits
from orchestra.protocols import Model
from orchestra.records import Encoding, Revision
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.virtual import virtual
from orchestra.values import Capabilities, ChatRequest, Message, Stopped, StopReason
from tests.config.mistakes import FILE, check_told

T = TypeVar("T")
D = TypeVar("D")
TEXT = """
[limits.user]
requests_per_minute = 10
concurrency = 2
wait_max_s = 0

[limits.organisation]
tokens_per_minute = 100_000
when_state_fails = "closed"

[limits.users.ada]
requests_per_minute = "none"
"""


def test_who_is_named_has_the_limits_of_the_others_but_for_their_own() -> None:
    user = OwnerLimits(requests_per_minute=10, concurrency=2, wait_max_s=0)
    assert read(TEXT, FILE).limits == CallerRules(
        user=user,
        users={"ada": attrs.evolve(user, requests_per_minute=None)},
        organisation=OwnerLimits(tokens_per_minute=100_000, when_state_fails="closed"),
    )


@pytest.mark.parametrize("table", ["limits", "budgets"])
@pytest.mark.parametrize("owner", ["users", "organisations"])
@pytest.mark.parametrize("name", ["acme/ada", " ada", "Jose\u0301", "a" * 300])
def test_a_name_that_no_key_has_is_a_mistake(table: str, owner: str, name: str) -> None:
    """What was said of it held for nobody, and nobody was told."""
    with pytest.raises(ConfigError, match="no key can have this name"):
        read(f'[{table}.{owner}."{name}"]\n', FILE)


def test_every_limit_can_be_written() -> None:
    assert OWNER.keys() == {field.name for field in attrs.fields(OwnerLimits)}


def test_without_limits_there_are_none() -> None:
    assert read("", FILE).limits is None
    assert read("[limits.user]", FILE).limits is None


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("limits = 3", 1, "3 is not a table"),
        ("[limits]\nuser = 3", 2, "write it as a table: [limits.user]"),
        ("[limits]\nusers = 3", 2, "write it as a table: [limits.users.NAME]"),
        (
            "[limits.users]\nrequests_per_minute = 3",
            2,
            "did you mean [limits.user]? For one user it is",
        ),
        ("[limits.organisations]\nconcurrency = 3", 2, "did you mean [limits.organisation]?"),
        ("[limits.users]\nada = 3", 2, "write it as a table: [limits.users.ada]"),
        ("[limits.usr]\nconcurrency = 3", 1, "did you mean 'user'?"),
        ("[limits.user]\nconcurency = 3", 2, "did you mean 'concurrency'?"),
        ("[limits.user]\nconcurrency = 0", 2, 'a whole number over 0 and up to 1000, or "none"'),
        ("[limits.user]\nruns = 0", 2, 'a whole number over 0, or "none"'),
        ("[limits.user]\nwait_max_s = -1", 2, "a number of seconds, from 0 up to 86400"),
        ('[limits.user]\nwhen_state_fails = "ajar"', 2, '"open" or "closed"'),
        ("[limits.organisations.a]\ntokens_per_minute = 1.5", 2, "1.5 is not a whole number"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, says: str) -> None:
    check_told(text, line, says)


REQUEST = ChatRequest((Message("user", "why"),))


class Ada(NoAccount):
    """An account of hers."""

    caller = Caller("acme", "ada")


async def reached_by_two(bindings: LocalBindings, account: NoAccount) -> str:
    """The limit by which the second of two calls with this account is refused."""
    token = PRESENT.set(account)
    try:
        await bindings.model("fast").complete(REQUEST)
        with pytest.raises(LimitReachedError) as caught:
            await bindings.model("smart").complete(REQUEST)
    finally:
        PRESENT.reset(token)
    return caught.value.code


def test_the_limits_are_obeyed_by_every_name_of_a_model(tmp_path: Path) -> None:
    """Two names, one model, one limit; and none for a call that nobody makes."""
    found = read("[limits.users.ada]\nrequests_per_minute = 1\nwait_max_s = 0", FILE)

    async def main() -> str:
        with LocalBindings(tmp_path, found) as bindings:
            await bindings.model("fast").complete(REQUEST)
            await bindings.model("fast").complete(REQUEST)
            return await reached_by_two(bindings, Ada())

    assert trio.run(main) == "user.requests_per_minute"


def test_calls_that_wait_for_limits_of_callers_are_counted(tmp_path: Path) -> None:
    """The bindings say how many; so do those that have called nothing yet, and open no state."""
    found = read("[limits.user]\nrequests_per_minute = 1\nwait_max_s = 100", FILE)

    async def main() -> list[int]:
        with LocalBindings(tmp_path, found) as bindings:
            counts = [bindings.caller_calls_waiting]
            assert "state" not in vars(bindings)
            PRESENT.set(Ada())
            await bindings.model("fast").complete(REQUEST)
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(bindings.model("fast").complete, REQUEST)
                await trio.testing.wait_all_tasks_blocked()
                counts.append(bindings.caller_calls_waiting)
                nursery.cancel_scope.cancel()
            return [*counts, bindings.caller_calls_waiting]

    assert trio.run(main) == [0, 2, 0]


class WithKey(NoAccount):
    """An account of a caller who came with a key."""

    caller = Caller("acme", "ada", "k1", KeyAllowance(concurrency=3, requests_per_minute=1))


def test_a_key_is_limited_where_the_deployment_has_no_limits(tmp_path: Path) -> None:
    """And for who has none, the state is not even opened."""

    async def main() -> str:
        with LocalBindings(tmp_path, read("", FILE)) as bindings:
            for _ in range(3):
                await bindings.model("fast").complete(REQUEST)
            assert "state" not in vars(bindings)
            return await reached_by_two(bindings, WithKey())

    assert trio.run(main) == "key.requests_per_minute"


class Away(MemoryState):
    """A state that can be away."""

    at_once = False
    away = False

    async def revise(
        self,
        keys: Sequence[str],
        decide: Callable[[Sequence[D | None], float], Revision[T, D]],
        encoding: Encoding[D],
    ) -> T:
        if self.away:
            raise StateError("the store is gone; start it")
        return await super().revise(keys, decide, encoding)


@pytest.mark.parametrize(
    "limits",
    [
        "[limits.user]\nconcurrency = 1\nwait_max_s = 0",
        "[models.asked.limits]\nconcurrency = 1\nwait_max_s = 0\nshared = true",
    ],
)
def test_ends_of_calls_that_a_state_did_not_take_are_told_behind_the_last(limits: str) -> None:
    """Otherwise no other process may call for as long as a lease."""

    async def main() -> None:
        text = f'[models.asked]\nprovider = "openai"\nmodel = "gpt-5-mini"\n{limits}'
        deployment, state, unasked = read(text, FILE), Away(), cast("Any", None)

        class Fake(Model):
            capabilities = Capabilities()

            def stream(self, request: ChatRequest) -> Never:
                raise NotImplementedError("asked for whole answers")

            async def complete(self, request: ChatRequest) -> Completion:
                state.away = True
                return Completion((), Stopped(StopReason.END))

        PRESENT.set(Ada())
        for _ in range(2):
            process = Assembly(
                deployment,
                {},
                lambda: state,
                lambda _: unasked,
                unasked,
                stand_ins={"asked": Fake()},
            )
            model = process.model(deployment.models["asked"])
            await model.complete(ChatRequest((Message("user", "why"),)))
            state.away = False
            await process.flush(2.0)

    virtual(main)
