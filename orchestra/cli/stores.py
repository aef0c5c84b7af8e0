"""`orchestra stores`: lists the stores of a deployment, and deletes one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from orchestra.cli import terminal
from orchestra.cli.parameters import Config, Data, Flag
from orchestra.messages import counted

if TYPE_CHECKING:
    from orchestra.config.deployment.stores import Stores
    from orchestra.stores.summary import StoreSummary

HEADINGS = ("STORE", "DOCUMENTS", "PASSAGES", "DIMENSIONS")


def list_stores(*, data: Data = None, config: Config = None, json: Flag = False) -> int:
    """List all stores, with how many documents and passages each holds.

    An empty store has no dimensions; those of a store of your own class are unknown.

    Parameters
    ----------
    json
        Print them as one JSON array.
    """
    return _with_stores(partial(_list, json), data, config)


def delete(name: str, /, *, data: Data = None, config: Config = None) -> int:
    """Delete a store with all its passages.

    Runs that search it fail from now on. To fill it again, its documents have to be embedded again.

    Parameters
    ----------
    name
        The store, as `orchestra stores list` shows it.
    """
    return _with_stores(partial(_delete, name), data, config)


def _with_stores(work: Callable[[Stores], Awaitable[None]], data: Data, config: Config) -> int:
    import trio

    from orchestra.config import default_bindings

    with default_bindings(data, config=config) as bindings:
        trio.run(work, bindings.stores)
    return 0


async def _list(json: bool, stores: Stores) -> None:
    found = await stores.summaries()
    if json:
        terminal.say_json(found)
    elif found:
        terminal.show(as_table(found, terminal.width()))
    else:
        terminal.note(
            f"there are no stores in {stores.place}; make one: orchestra ingest FOLDER --store NAME"
        )


async def _delete(name: str, stores: Stores) -> None:
    gone = await stores.drop(name)
    terminal.show(f"{stores.place}: deleted {name}, with {counted(gone, 'passage')}")


def as_table(found: Iterable[StoreSummary], width: int | None = None) -> str:
    """A line for each store, with headings; as `table`."""
    rows = [
        (each.name, str(each.sources), str(each.passages), str(each.dimensions or "-"))
        for each in found
    ]
    return terminal.table([HEADINGS, *rows], width)
