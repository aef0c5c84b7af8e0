"""`orchestra budgets`: lists the spending and the rest of budgets, and resets them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import attrs
from cyclopts import Parameter

from orchestra.accounts import Caller
from orchestra.cli import terminal
from orchestra.cli.failures import MISUSED, CommandError
from orchestra.cli.parameters import Config, Data, Flag, Word

if TYPE_CHECKING:
    from orchestra.access.keys import KeyRecord
    from orchestra.config import LocalBindings
    from orchestra.policies.money.budget import Budgets, Payer
    from orchestra.protocols import State

_BY_NAME = (
    "what `orchestra run` and `orchestra batch` have spent for somebody without a key is listed by "
    "name only, with --organisation or --user"
)
PeriodName: TypeAlias = Annotated[Literal["day", "month"] | None, Parameter(show_default=False)]


def list_budgets(
    *,
    organisation: Word = "",
    user: Word = "",
    data: Data = None,
    config: Config = None,
    json: Flag = False,
) -> int:
    """List what each key, its user and its organisation have spent, and what is left.

    Callers without a key (end users, and those of `orchestra run` and `batch`) are listed only if
    `--organisation` and `--user` name them.

    Parameters
    ----------
    organisation
        Only those of this organisation, its users and their keys.
    user
        Only those of this user and their keys.
    json
        Print them as one JSON array, in nano-dollars. Times are in seconds since 1970.
    """
    return _with_budgets(partial(_list, organisation, user, json), data, config)


def reset(
    *,
    organisation: Word = "",
    user: Word = "",
    key: Word = "",
    period: PeriodName = None,
    data: Data = None,
    config: Config = None,
    json: Flag = False,
) -> int:
    """Set what one organisation, user or key has spent back to zero.

    Calls that are running keep what they hold, and count after the reset.

    Parameters
    ----------
    organisation
        The organisation; with --user, that of the user.
    user
        The user.
    key
        The key, as `orchestra keys list` shows it.
    period
        Only the daily or the monthly budget.
    json
        Print the resulting budgets as one JSON array.
    """
    if bool(key) == bool(organisation or user):
        raise CommandError(
            "say whose budgets to reset: --organisation, --user, both (a user within an "
            "organisation), or --key ID",
            code=MISUSED,
        )
    work = partial(_reset, Caller(organisation, user, key), period, json)
    return _with_budgets(work, data, config)


def _with_budgets(
    work: Callable[[LocalBindings, State], Awaitable[None]], data: Data, config: Config
) -> int:
    import trio

    from orchestra.config import default_bindings

    with default_bindings(data, config=config) as bindings:
        state = bindings.shared_state or bindings.budget_state
        if state.at_once:
            at = bindings.deployment.where("state", "url")
            raise CommandError(
                f'{at}: state.url is "memory:": only the process of the server knows what is '
                'spent; leave [state] out, or write url = "sqlite:state.sqlite", to keep it '
                "in a file"
            )
        trio.run(work, bindings, state)
    return 0


async def _list(
    organisation: str, user: str, json: bool, bindings: LocalBindings, state: State
) -> None:
    from orchestra.cli.callers.budget_views import Owned, as_object, as_table
    from orchestra.policies.money.balances import balances

    records, now_s = await bindings.keyring.list_all()
    ended = {each.id for each in records if each.state(now_s) != "active"}
    known = _owners(_with_keys(records, organisation, user), bindings.budgets, user)
    named = _owners([Caller(organisation, user)], bindings.budgets, user)  # perhaps without a key
    owners = named | known
    found = [
        Owned(each, owners[each.budget.key][1])
        for each in await balances([payer for payer, _ in owners.values()], state)
        if each.spent
        or each.held
        or (
            each.budget.key in known
            and (each.budget.kind != "key" or each.budget.name not in ended)
        )
    ]
    found.sort(key=Owned.order)
    if json:
        terminal.say_json([as_object(each) for each in found])
    elif found:
        terminal.show(as_table(found, terminal.width()))
    elif not records:
        terminal.note(
            f"there are no keys yet in {bindings.keys_at}, so no server has spent anything for "
            f"anybody; {_BY_NAME}"
        )
    else:
        terminal.note(
            "no such daily or monthly budget: budgets are set in [budgets] of orchestra.toml, and "
            f"for keys with --day-dollars or --month-dollars; {_BY_NAME}"
        )


def _with_keys(records: Collection[KeyRecord], organisation: str, user: str) -> list[Caller]:
    """The owners of keys, and the named end user, if keys of the organisation may name any."""
    from orchestra.cli.callers.keys import owned_by

    callers = [
        Caller(each.organisation, each.user, each.id, each.allowance)
        for each in owned_by(records, organisation, user)
    ]
    of_end_users = {each.organisation for each in records if each.end_users}
    if organisation and user and organisation in of_end_users:
        callers.append(Caller(organisation, user))
    return callers


def _owners(
    callers: Iterable[Caller], budgets: Budgets | None, user: str
) -> dict[str, tuple[Payer, Caller]]:
    """Those of the callers who have budgets, by the keys of their ledgers, each once."""
    from orchestra.policies.money.budget import NO_BUDGETS

    found: dict[str, tuple[Payer, Caller]] = {}
    for caller in callers:
        for payer in (budgets or NO_BUDGETS).of_caller(caller):
            if not user or payer.kind != "organisation":
                found.setdefault(payer.key, (payer, caller))
    return found


async def _reset(
    caller: Caller, period: str | None, json: bool, bindings: LocalBindings, state: State
) -> None:
    from orchestra.cli.callers.budget_views import Owned, as_object, was_spent
    from orchestra.cli.callers.key_views import owner
    from orchestra.policies.money.balances import is_known
    from orchestra.policies.money.balances import reset as reset_budgets
    from orchestra.policies.money.budget import NO_BUDGETS, Period

    kind = "user" if caller.user else "organisation"
    if caller.key:
        record = await bindings.keyring.find(caller.key)
        caller = Caller(record.organisation, record.user, record.id, record.allowance)
        kind = "key"
    payers = (bindings.budgets or NO_BUDGETS).of_caller(caller)
    periods = [each for each in (Period.DAY, Period.MONTH) if period in (None, each.value)]
    chosen = [
        payer
        for payer in payers
        if payer.kind == kind and any(each.period in periods for each in payer.budgets)
    ]
    whose = f"{kind} {caller.key or owner(caller)}"
    if not chosen:
        raise CommandError(
            f"{whose} has no budget of a {period or 'day or a month'}: there is nothing to "
            "reset; `orchestra budgets list` shows all budgets"
        )
    if kind != "key" and not await is_known(chosen, state):
        await _refuse_strangers(caller, whose, bindings)
    before = [each for payer in chosen for each in await reset_budgets(payer, periods, state)]
    if json:
        after = (Owned(attrs.evolve(each, spent=0), caller) for each in before)
        terminal.say_json([as_object(each) for each in after])
    else:
        for each in before:
            terminal.show(was_spent(each))


async def _refuse_strangers(caller: Caller, whose: str, bindings: LocalBindings) -> None:
    """Check that the named caller has a key, had one, or may be an end user.

    Raises:
        CommandError: there is no such caller; the message suggests similar names.
    """
    records, _ = await bindings.keyring.list_all()
    if any(
        each.organisation == caller.organisation
        and (caller.user in ("", each.user) or each.end_users)
        for each in records
    ):
        return
    same = sorted({each.organisation for each in records if each.user == caller.user != ""})
    near = "".join(f"; there is --organisation {name} --user {caller.user}" for name in same)
    raise CommandError(
        f"{whose} has no key and has spent nothing: there is nothing to reset{near}; "
        "`orchestra budgets list` shows all budgets"
    )
