"""The options of `orchestra keys` for creating and changing keys. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from math import inf
from typing import Annotated, TypeAlias

import attrs
from cyclopts import Parameter

from orchestra.access.wanted import KeyChanges, NewKey
from orchestra.access.wanted import check as check_wanted
from orchestra.access.wanted import check_changes as check_wanted_changes
from orchestra.cli.callers.durations import parse_duration_s
from orchestra.cli.failures import MISUSED, CommandError
from orchestra.errors import StoreError
from orchestra.nearest import did_you_mean

OptionalText: TypeAlias = Annotated[str | None, Parameter(show_default=False)]
DIGITS_MAX = 18
_FIELD = re.compile(r"^([a-z_]+)(?=: )", re.MULTILINE)
_WRITTEN = re.compile(r"""^\s*def (\w+)\(|\bname=["']([^"']+)["']""", re.MULTILINE)
"""Finds possible names of pipelines in the source of a module, which is not imported."""
EXAMPLE = "orchestra keys create --organisation acme --user ada --pipelines answer,chat"


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class LimitOptions:
    """The limits of a key: options of `create` and `change`.

    Parameters
    ----------
    requests_per_minute
        HTTP requests that it may send in a minute and, counted separately, calls of models that its
        runs may make; or none for no limit.
    tokens_per_minute
        Tokens of questions and answers in a minute, or none.
    concurrency
        Calls of models at once, or none.
    runs
        Runs at once, in one process of the server, or none.
    day_dollars
        What it may spend in a day (UTC), or none.
    month_dollars
        What it may spend in a month, or none.
    """

    requests_per_minute: OptionalText = None
    tokens_per_minute: OptionalText = None
    concurrency: OptionalText = None
    runs: OptionalText = None
    day_dollars: OptionalText = None
    month_dollars: OptionalText = None

    @property
    def limits(self) -> Mapping[str, int | None]:
        """The given limits. Raises CommandError if one is not a number."""
        given = {field.name: getattr(self, field.name) for field in attrs.fields(LimitOptions)}
        return {
            name.replace("dollars", "nanodollars"): _limit(name, text)
            for name, text in given.items()
            if text is not None
        }


NO_LIMIT_OPTIONS = LimitOptions()
NONE, NEVER = "none", "never"


def check(wanted: NewKey) -> None:
    """Check that a key with these settings can be made.

    Raises:
        CommandError: it cannot; the message lists all errors.
    """
    wrong = []
    if not wanted.pipelines and not wanted.models and not wanted.metrics:
        wrong.append(
            "a key needs rights: name the pipelines that it may run with --pipelines, the models "
            "that it may call directly with --models, or both ('*' is all); or only --metrics, "
            "for Prometheus"
        )
    if not wanted.organisation and not wanted.user:
        wrong.append("a key needs an owner: --organisation, --user, or both")
    if wanted.end_users and not wanted.organisation:
        wrong.append("--end-users are users of an organisation: say which with --organisation")
    if wrong:
        raise CommandError("\n".join((*wrong, f"such as: {EXAMPLE}")), code=MISUSED)
    _as_command_error(partial(check_wanted, wanted))


def check_changes(wanted: KeyChanges) -> None:
    """Check that a change has at least one setting, and that all are allowed.

    Raises:
        CommandError: it has none, or some are not allowed; the message lists all errors.
    """
    if wanted == KeyChanges():
        raise CommandError(
            "name what to change, such as\n"
            "orchestra keys change ID --pipelines answer --day-dollars 5 --expires 90d",
            code=MISUSED,
        )
    _as_command_error(partial(check_wanted_changes, wanted))


def lifetime_s(text: str | None) -> float | None:
    """The lifetime of a key from now, in the form of `KeyChanges`.

    Raises:
        CommandError: the text is not a duration.
    """
    if text is None:
        return None
    return inf if text == NEVER else parse_duration_s("--expires", text)


def names(given: Iterable[str] | None) -> tuple[str, ...]:
    """Names from options that may come several times, each with commas between them."""
    words = (word.strip() for text in given or () for word in text.split(","))
    return tuple(dict.fromkeys(word for word in words if word))


def nanodollars(option: str, text: str) -> int:
    """Whole nano-dollars, exactly as they are written.

    Raises:
        CommandError: the text is not a number of dollars.
    """
    from orchestra.policies.money.prices import NANODOLLARS  # lazy: few commands need it

    try:
        exact = Decimal(text) * NANODOLLARS
        found = int(exact) if exact.adjusted() <= 2 * DIGITS_MAX else 0
    except (ArithmeticError, ValueError):
        found, exact = 0, Decimal(1)
    if found != exact:
        raise CommandError(
            f"{option} {text!r:.40} is not a number of dollars; write 5 or 0.25, with at most nine "
            "decimals",
            code=MISUSED,
        )
    return found


def _as_command_error(check: Callable[[], None]) -> None:
    try:
        check()
    except StoreError as error:
        raise CommandError(_FIELD.sub(_as_option, str(error)), code=MISUSED) from error


def _as_option(found: re.Match[str]) -> str:
    """An error text with a value's name written as its option."""
    name = found[1]
    if name == "lasts_s":
        return "--expires"
    option = f"--{name.replace('_', '-')}"
    kept = option.removesuffix("-nanodollars")
    return option if kept == option else f"{kept}-dollars, in nano-dollars"


def _limit(name: str, text: str) -> int | None:
    option = f"--{name.replace('_', '-')}"
    if text == NONE:
        return None
    if name.endswith("dollars"):
        return nanodollars(option, text)
    if not (text.isascii() and text.isdigit()) or len(text) > DIGITS_MAX:
        raise CommandError(
            f"{option} {text!r:.40} is not a whole number; write 60, or none for no limit",
            code=MISUSED,
        )
    return int(text)


def unknown_models(names: Iterable[str], known: Iterable[str]) -> Iterable[str]:
    """A note about names that do not exist, or not yet: a key may be made first."""
    return _unknown("model or route", "this configuration", names, known)


def unknown_pipelines(names: Iterable[str], sources: Iterable[str]) -> Iterable[str]:
    """Like `unknown_models`, for pipelines; no notes if there are no sources to search."""
    known = [name for text in sources for found in _WRITTEN.findall(text) for name in found]
    return _unknown("pipeline", "pipelines/", names, known) if known else ()


def _unknown(what: str, where: str, names: Iterable[str], known: Iterable[str]) -> Iterable[str]:
    known = {"*", *known}
    for name in names:
        if name not in known:
            meant = did_you_mean(name, known, before="; ")
            yield f"there is no {what} named {name!r} in {where}{meant}"
