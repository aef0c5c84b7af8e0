"""`orchestra keys`: who may call the server. A key is shown once, when it is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from cyclopts import Parameter

from orchestra.access.wanted import KeyChanges, NewKey
from orchestra.accounts import KeyAllowance
from orchestra.cli import terminal
from orchestra.cli.callers.durations import duration_text, parse_duration_s
from orchestra.cli.callers.key_options import (
    NO_LIMIT_OPTIONS,
    LimitOptions,
    OptionalText,
    check,
    check_changes,
    lifetime_s,
    names,
    unknown_models,
    unknown_pipelines,
)
from orchestra.cli.failures import CommandError
from orchestra.cli.parameters import Config, Data, Flag, Word

if TYPE_CHECKING:
    from orchestra.access.changes import Made
    from orchestra.access.keys import KeyRecord
    from orchestra.config import LocalBindings

Names: TypeAlias = Annotated[list[str] | None, Parameter(show_default=False)]
Metrics: TypeAlias = Annotated[bool | None, Parameter(negative="--no-metrics", show_default=False)]
EndUsers: TypeAlias = Annotated[
    bool | None, Parameter(negative="--no-end-users", show_default=False)
]


def create(
    *,
    organisation: Word = "",
    user: Word = "",
    name: Word = "",
    pipelines: Names = None,
    models: Names = None,
    routes: Names = None,
    metrics: Flag = False,
    end_users: Flag = False,
    expires: OptionalText = None,
    most: LimitOptions = NO_LIMIT_OPTIONS,
    data: Data = None,
    config: Config = None,
    json: Flag = False,
) -> int:
    """Make a key, and print it; it is shown only this once.

    Parameters
    ----------
    organisation
        The organisation it belongs to; its users see each other's runs of pipelines.
    user
        The user it belongs to, within the organisation.
    name
        Its name in lists, such as the machine that it is for.
    pipelines
        Which pipelines it may run: names separated by commas, or '*' for all.
    models
        Which models and routes it may call without a pipeline, written in the same way.
    routes
        The same as --models: a route is called like a model.
    metrics
        It may read /metrics, which covers all callers: for Prometheus.
    end_users
        For a backend: each request may name the user of the organisation that it is made for.
    expires
        When it expires, from now: 90d, 12h; by default never.
    json
        Print the key and its settings as one JSON object.
    """
    wanted = NewKey(
        organisation=organisation,
        user=user,
        name=name,
        pipelines=names(pipelines),
        models=names(models) + names(routes),
        metrics=metrics,
        end_users=end_users,
        allowance=KeyAllowance(**most.limits),
        lasts_s=None if expires is None else parse_duration_s("--expires", expires),
    )
    check(wanted)
    return _with_bindings(partial(_create, wanted, json), data, config)


def list_keys(
    *,
    organisation: Word = "",
    user: Word = "",
    data: Data = None,
    config: Config = None,
    json: Flag = False,
) -> int:
    """List all keys that were ever made, oldest first; secrets are never stored.

    Parameters
    ----------
    organisation
        Only those of this organisation.
    user
        Only those of this user.
    json
        Print them as one JSON array. Times are in seconds since 1970.
    """

    async def show(bindings: LocalBindings) -> None:
        from orchestra.cli.callers.key_views import as_object, as_table

        records, now_s = await bindings.keyring.list_all()
        found = owned_by(records, organisation, user)
        used_s = await bindings.keyring.last_used([each.id for each in found])
        if json:
            terminal.say_json([as_object(each, now_s, used_s) for each in found])
        elif found:
            shown = as_table(found, now_s, terminal.width(), used_s)
            terminal.show(shown)
        else:
            which = "no such keys" if records else "no keys yet"
            terminal.note(f"there are {which} in {bindings.keys_at}")

    return _with_bindings(show, data, config)


def change(
    id: str,  # noqa: A002 - as it is called in the help
    /,
    *,
    name: OptionalText = None,
    pipelines: Names = None,
    models: Names = None,
    routes: Names = None,
    metrics: Metrics = None,
    end_users: EndUsers = None,
    expires: OptionalText = None,
    most: LimitOptions = NO_LIMIT_OPTIONS,
    data: Data = None,
    config: Config = None,
    json: Flag = False,
) -> int:
    """Change a key, from its next request on; what you leave out stays as it is.

    Its secret stays, and what it has spent stays spent.

    Parameters
    ----------
    id
        The key, as `orchestra keys list` shows it.
    name
        Its name in lists.
    pipelines
        Which pipelines it may run, in place of those before: names separated by commas, '*' for
        all, '' for none.
    models
        Which models and routes it may call without a pipeline, written in the same way.
    routes
        The same as --models: a route is called like a model.
    metrics
        It may read /metrics, or no longer.
    end_users
        Each request may name the user that it is made for, or no longer.
    expires
        When it expires, from now: 90d, 12h, or never.
    json
        Print its settings as one JSON object.
    """
    callable_models = None if models is None and routes is None else names(models) + names(routes)
    wanted = KeyChanges(
        name=name,
        pipelines=None if pipelines is None else names(pipelines),
        models=callable_models,
        metrics=metrics,
        end_users=end_users,
        limits=most.limits,
        lasts_s=lifetime_s(expires),
    )
    check_changes(wanted)
    return _with_bindings(partial(_change, id, wanted, json), data, config)


def rotate(
    id: str,  # noqa: A002 - as it is called in the help
    /,
    *,
    grace: OptionalText = None,
    expires: OptionalText = None,
    data: Data = None,
    config: Config = None,
    json: Flag = False,
) -> int:
    """Give a key a new secret, and print it; the old is refused at once, or after `--grace`.

    What the key may do, and what it has spent, stays as it is.

    Parameters
    ----------
    id
        The key, as `orchestra keys list` shows it.
    grace
        How long the old secret still works: 1h, 7d; by default not at all.
    expires
        When the key expires, from now: 90d; by default when it would have expired.
    json
        Print the key and its settings as one JSON object.
    """
    grace_s = 0.0 if grace is None else parse_duration_s("--grace", grace)
    lasts_s = None if expires is None else parse_duration_s("--expires", expires)

    async def change(bindings: LocalBindings) -> None:
        made = await bindings.keyring.rotate(id, grace_s=grace_s, lasts_s=lasts_s)
        _show(made, json=json)
        old = f"works for {duration_text(grace_s)} more" if grace_s else "is refused from now on"
        terminal.note(f"{_made_note(made.record, bindings)}\nthe old one {old}")

    return _with_bindings(change, data, config)


def revoke(
    id: str,  # noqa: A002 - as it is called in the help
    /,
    *,
    data: Data = None,
    config: Config = None,
    json: Flag = False,
) -> int:
    """Refuse a key from now on, in every process, for ever.

    Parameters
    ----------
    id
        The key, as `orchestra keys list` shows it; or the whole key, if you have found it.
    json
        Print the key's settings as one JSON object.
    """

    async def end(bindings: LocalBindings) -> None:
        from orchestra.cli.callers.key_views import as_object, owner

        record = await bindings.keyring.revoke(id)
        if json:
            terminal.say_json(as_object(record, record.created_s))
        else:
            terminal.show(f"key {record.id} of {owner(record)} is revoked")

    return _with_bindings(end, data, config)


def _with_bindings(
    work: Callable[[LocalBindings], Awaitable[None]], data: Data, config: Config
) -> int:
    import trio

    from orchestra.config import default_bindings

    with default_bindings(data, config=config) as bindings:
        trio.run(work, bindings)
    return 0


def _show(made: Made, *, json: bool) -> None:
    """Print only the key on standard output, for scripts.

    Raises:
        CommandError: it cannot be written, and is lost.
    """
    from orchestra.cli.callers.key_views import as_object

    try:
        if json:
            terminal.say_json({"key": made.text, **as_object(made.record, made.record.created_s)})
        else:
            terminal.say(made.text)
    except OSError as error:
        raise CommandError(
            f"key {made.record.id} is in force, but could not be written to standard output "
            f"({error.strerror}), and nobody knows its secret: `orchestra keys rotate "
            f"{made.record.id}` gives it another"
        ) from error


def _made_note(record: KeyRecord, bindings: LocalBindings) -> str:
    from orchestra.cli.callers.key_views import ends, owner

    named = f" ({record.name})" if record.name else ""
    return terminal.visible(
        f"key {record.id}{named} of {owner(record)}, {ends(record)}; save it now: it is not shown "
        f"again. Its record, without the secret, is in {bindings.keys_at}"
    )


async def _create(wanted: NewKey, json: bool, bindings: LocalBindings) -> None:
    _note_unknown(wanted.pipelines, wanted.models, bindings)
    made = await bindings.keyring.create(wanted)
    _show(made, json=json)
    terminal.note(_made_note(made.record, bindings))


async def _change(
    id: str,  # noqa: A002 - as above
    wanted: KeyChanges,
    json: bool,
    bindings: LocalBindings,
) -> None:
    from orchestra.cli.callers.key_views import as_object, as_table

    _note_unknown(wanted.pipelines or (), wanted.models or (), bindings)
    found = await bindings.keyring.change(id, wanted)
    if json:
        terminal.say_json(as_object(found.record, found.now_s))
    else:
        shown = as_table([found.record], found.now_s, terminal.width())
        terminal.show(shown)


def _note_unknown(pipelines: Iterable[str], models: Iterable[str], bindings: LocalBindings) -> None:
    from orchestra.cli.loading import chosen, source_of

    sources = [source_of(Path(each)) for each in chosen((), needed=False)]
    notes = unknown_pipelines(pipelines, sources), unknown_models(models, bindings.names("model"))
    for each in chain(*notes):
        terminal.note(each, "yellow")


def owned_by(records: Iterable[KeyRecord], organisation: str, user: str) -> list[KeyRecord]:
    """The keys of this organisation and user; "" matches any."""
    return [
        each
        for each in records
        if organisation in ("", each.organisation) and user in ("", each.user)
    ]
