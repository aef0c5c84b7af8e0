"""`orchestra budgets`: what is spent is told of everybody who has a key, and taken back of one."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import trio

from orchestra.access.principal import Principal
from orchestra.accounts import Caller
from orchestra.cli.failures import FAILED, MISUSED
from orchestra.config import LocalBindings, bindings, default_bindings
from orchestra.errors import StateError
from orchestra.policies.account import NoAccount
from tests.cli.conftest import Project
from tests.patience import PATIENCE_S, eventually
from tests.stores.states import shared_redis

DAY_S = 86_400
DOLLAR = 1_000_000_000
BUDGETS = """\
[budgets.user]
day = "1.00"

[budgets.organisation]
month = 20
"""
MEMORY = '[state]\nurl = "memory:"\n'


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test machine is busy."""
    monkeypatch.setattr(bindings, "KEYS_TIMEOUT_S", 30.0)


@pytest.fixture(autouse=True)
def _one_day() -> None:
    """None of these tests begins right before midnight in UTC: what is spent would be past by then."""
    eventually(
        "midnight", lambda: DAY_S - time.time() % DAY_S, lambda left_s: left_s > PATIENCE_S / 2
    )


def key_of(project: Project, *words: str) -> str:
    code, out, _ = project.orchestra("keys", "create", "--models", "*", *words)
    assert code == 0
    return out.strip()


class Spender(NoAccount):
    """An account of this caller."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller


async def spent(deployment: LocalBindings, caller: Caller, nanodollars: int, held: int = 0) -> None:
    """What a call of this caller costs; `held` is of another call, which goes on."""
    taken = await deployment.purse.hold(Spender(caller), nanodollars, for_s=600, model="m")
    assert taken is not None
    await taken.settle(nanodollars)
    if held:
        await deployment.purse.hold(Spender(caller), held, for_s=600, model="m")
    await deployment.flush(30)


def spend(token: str, nanodollars: int, held: int = 0, user: str = "") -> None:
    """What a server does for who shows this key; `held` is of a call that goes on.

    `user` is the end user whom the request names.
    """

    async def main() -> None:
        with default_bindings() as deployment:
            principal = await deployment.keyring.authenticate(token)
            assert isinstance(principal, Principal)
            caller = (principal.for_end_user(user) if user else principal).caller
            await spent(deployment, caller, nanodollars, held)

    trio.run(main)


def spend_without_key(caller: Caller, nanodollars: int) -> None:
    """What `orchestra batch --organisation ... --user ...` does."""

    with default_bindings() as deployment:
        trio.run(spent, deployment, caller, nanodollars)


def listed(project: Project, *words: str) -> list[dict[str, object]]:
    code, out, _ = project.orchestra("budgets", "list", "--json", *words)
    assert code == 0
    found: list[dict[str, object]] = json.loads(out)
    return found


def shortly(found: list[dict[str, object]]) -> list[tuple[object, ...]]:
    return [
        (each["kind"], each["name"], each["period"], each["spent_nanodollars"]) for each in found
    ]


@pytest.mark.parametrize("state", ["", 'sqlite:own.sqlite"\ntimeout_s = 30\n', "redis"])
def test_who_has_spent_what_is_told_of_everybody_who_has_a_key(
    project: Project, state: str
) -> None:
    if state == "redis":
        state = f'redis://127.0.0.1:{shared_redis().port}/9"\ntimeout_s = 30\n'
    project.write("orchestra.toml", BUDGETS + (f'[state]\nurl = "{state}' if state else ""))
    ada = key_of(project, "--organisation", "acme", "--user", "ada", "--day-dollars", "0.5")
    key_of(project, "--organisation", "acme", "--user", "ada")
    bob = key_of(project, "--organisation", "acme", "--user", "bob")
    key_of(project, "--user", "eve")
    spend(ada, DOLLAR // 4, held=DOLLAR // 8)
    spend(bob, DOLLAR // 2)
    found = listed(project)
    assert shortly(found) == [
        ("user", "eve", "day", 0),
        ("organisation", "acme", "month", 3 * DOLLAR // 4),
        ("user", "acme/ada", "day", DOLLAR // 4),
        ("user", "acme/bob", "day", DOLLAR // 2),
        ("key", ada[4:15], "day", DOLLAR // 4),
    ]
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    midnight_s = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=UTC).timestamp()
    assert found[-1] == {
        "kind": "key",
        "name": ada[4:15],
        "organisation": "acme",
        "user": "ada",
        "period": "day",
        "limit_nanodollars": DOLLAR // 2,
        "spent_nanodollars": DOLLAR // 4,
        "held_nanodollars": DOLLAR // 8,
        "left_nanodollars": DOLLAR // 8,
        "resets_at_s": midnight_s,
        "previous_nanodollars": None,
    }
    assert [each["name"] for each in listed(project, "--user", "ada")] == ["acme/ada", ada[4:15]]
    assert len(listed(project, "--organisation", "acme")) == 4
    _, table, _ = project.orchestra("budgets", "list", "--user", "bob")
    head, row = table.splitlines()
    assert head.split() == [
        "BUDGET",
        "OF",
        "PERIOD",
        "LIMIT",
        "SPENT",
        "HELD",
        "LEFT",
        "RESETS",
        "(UTC)",
        "PREVIOUS",
    ]
    assert row.split()[:7] == ["user", "acme/bob", "day", "$1", "$0.5", "$0", "$0.5"]


def test_of_a_key_that_has_ended_what_it_has_spent_is_told_if_anything(project: Project) -> None:
    spender, other = (key_of(project, "--user", "ada", "--day-dollars", "5") for _ in "ab")
    spend(spender, 7)
    for each in (spender, other):
        project.orchestra("keys", "revoke", each)
    assert shortly(listed(project)) == [("key", spender[4:15], "day", 7)]


def test_to_look_makes_no_file(project: Project) -> None:
    project.write("orchestra.toml", BUDGETS)
    code, out, err = project.orchestra("budgets", "list")
    assert (code, out) == (0, "")
    assert "there are no keys yet" in err
    key_of(project, "--user", "ada")
    assert shortly(listed(project)) == [("user", "ada", "day", 0)]
    assert [each.name for each in (project.folder / ".orchestra").iterdir()] == ["keys.sqlite"]
    assert listed(project, "--user", "bob") == []
    _, out, err = project.orchestra("budgets", "list", "--user", "bob")
    assert out == ""
    assert "no such daily or monthly budget" in err


@pytest.mark.parametrize("others_have_keys", [False, True])
def test_what_a_batch_has_spent_for_somebody_without_a_key_is_listed_by_name(
    project: Project,
    others_have_keys: bool,
) -> None:
    project.write("orchestra.toml", BUDGETS)
    if others_have_keys:
        key_of(project, "--user", "eve")
    spend_without_key(Caller("data", "ann"), DOLLAR // 4)
    organisation, user = (
        ("organisation", "data", "month", DOLLAR // 4),
        ("user", "data/ann", "day", DOLLAR // 4),
    )
    assert shortly(listed(project, "--organisation", "data")) == [organisation]
    assert shortly(listed(project, "--organisation", "data", "--user", "ann")) == [user]
    assert [each for each in shortly(listed(project)) if each[3]] == []
    assert listed(project, "--organisation", "dato") == []
    _, _, err = project.orchestra("budgets", "list", "--organisation", "dato")
    assert "is listed by name only, with --organisation or --user" in err


def test_a_reset_of_somebody_who_is_not_there_says_who_may_be_meant(project: Project) -> None:
    project.write("orchestra.toml", BUDGETS)
    key_of(project, "--organisation", "acme", "--user", "ada")
    code, out, err = project.orchestra("budgets", "reset", "--user", "ada")
    assert (code, out) == (FAILED, "")
    assert "user ada has no key and has spent nothing: there is nothing to reset; " in err
    assert "there is --organisation acme --user ada" in err
    for words in (("--organisation", "acne"), ("--organisation", "acme", "--user", "adda")):
        assert project.orchestra("budgets", "reset", *words)[0] == FAILED
    for words in (("--organisation", "acme"), ("--organisation", "acme", "--user", "ada")):
        assert project.orchestra("budgets", "reset", *words)[0] == 0
    assert project.orchestra("budgets", "reset", "--user", "ada")[0] == FAILED, "nothing was made"


def test_what_cannot_be_read_is_reset_also_of_somebody_without_a_key(project: Project) -> None:
    """Whoever cannot spend because of it is told to reset it."""
    project.write("orchestra.toml", BUDGETS)
    spend_without_key(Caller("", "ann"), DOLLAR // 4)
    (file,) = (project.folder / ".orchestra").glob("state.sqlite")
    with closing(sqlite3.connect(file, isolation_level=None)) as by_hand:
        by_hand.execute("UPDATE entry SET data = 'x'")
    with pytest.raises(StateError, match="orchestra budgets reset"):
        spend_without_key(Caller("", "ann"), DOLLAR // 4)
    assert project.orchestra("budgets", "reset", "--user", "ann")[0] == 0
    spend_without_key(Caller("", "ann"), DOLLAR // 4)
    assert shortly(listed(project, "--user", "ann")) == [("user", "ann", "day", DOLLAR // 4)]


def test_a_reset_lets_one_spend_anew_and_leaves_the_others(project: Project) -> None:
    project.write("orchestra.toml", BUDGETS)
    ada = key_of(project, "--organisation", "acme", "--user", "ada", "--month-dollars", "9")
    spend(ada, DOLLAR, held=0)
    code, out, _ = project.orchestra("budgets", "reset", "--organisation", "acme", "--user", "ada")
    assert (code, out) == (0, "user acme/ada, a day: $1 was spent, and nothing is now\n")
    spend(ada, DOLLAR // 2, held=DOLLAR // 4)
    assert [each["spent_nanodollars"] for each in listed(project)] == [
        3 * DOLLAR // 2,
        DOLLAR // 2,
        3 * DOLLAR // 2,
    ]
    code, out, _ = project.orchestra("budgets", "reset", "--key", ada, "--json")
    (key,) = json.loads(out)
    assert (key["kind"], key["spent_nanodollars"]) == ("key", 0)
    assert key == listed(project)[-1]
    _, out, _ = project.orchestra("budgets", "reset", "--organisation", "acme")
    assert out == (
        "organisation acme, a month: $1.5 was spent, and nothing is now; $0.25 is held by calls "
        "under way\n"
    )


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), MISUSED, "say whose budgets to reset"),
        (("--key", "x", "--user", "ada"), MISUSED, "say whose budgets to reset"),
        (("--key", "x"), FAILED, "is not the id of a key"),
        (("--key", "0123456789a"), FAILED, "there is no key 0123456789a"),
        (("--user", "ada", "--period", "week"), MISUSED, "week"),
        (("--user", "ada", "--period", "month"), FAILED, "user ada has no budget of a month"),
    ],
)
def test_what_cannot_be_reset_is_told(
    project: Project, words: tuple[str, ...], code: int, told: str
) -> None:
    project.write("orchestra.toml", BUDGETS)
    found, out, err = project.orchestra("budgets", "reset", *words)
    assert (found, out) == (code, "")
    assert told in err


@pytest.mark.parametrize("words", [("list",), ("reset", "--user", "ada")])
def test_what_only_the_server_knows_is_not_made_up(
    project: Project, words: tuple[str, ...]
) -> None:
    project.write("orchestra.toml", BUDGETS + MEMORY)
    code, out, err = project.orchestra("budgets", *words)
    assert (code, out) == (FAILED, "")
    assert 'orchestra.toml:7: state.url is "memory:"' in err
    assert "leave [state] out" in err


def test_what_an_end_user_has_spent_is_told_and_taken_back_by_their_name(project: Project) -> None:
    """They have no key: they are known to who names them."""
    project.write("orchestra.toml", BUDGETS)
    key = key_of(project, "--organisation", "acme", "--end-users")
    spend(key, DOLLAR // 4, user="ann")
    spend(key, DOLLAR // 2, user="bob")
    anns = ("--organisation", "acme", "--user", "ann")
    assert shortly(listed(project, *anns)) == [("user", "acme/ann", "day", DOLLAR // 4)]
    assert shortly(listed(project)) == [("organisation", "acme", "month", 3 * DOLLAR // 4)]
    assert project.orchestra("budgets", "reset", *anns)[0] == 0
    assert shortly(listed(project, *anns)) == [("user", "acme/ann", "day", 0)]
    assert project.orchestra("budgets", "reset", *anns)[0] == 0
    assert shortly(listed(project, "--organisation", "acme", "--user", "bob"))[0][3] == DOLLAR // 2
    other = ("--organisation", "other", "--user", "ann")
    assert listed(project, *other) == []
    assert project.orchestra("budgets", "reset", *other)[0] == FAILED
