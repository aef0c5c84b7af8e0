"""What `orchestra keys create` is told of a key that is to be made. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Annotated, TypeAlias

import attrs
from cyclopts import Parameter

from orchestra.access.wanted import NewKey
from orchestra.access.wanted import check as check_wanted
from orchestra.accounts import KeyAllowance
from orchestra.cli.failures import MISUSED, CommandError
from orchestra.errors import StoreError

Count: TypeAlias = Annotated[int | None, Parameter(show_default=False)]
Said: TypeAlias = Annotated[str | None, Parameter(show_default=False)]
EXAMPLE = "orchestra keys create --organisation acme --user ada --pipelines answer,chat"


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Most:
    """The most that may be done with a key: options of `create`.

    Parameters
    ----------
    requests_per_minute
        Calls of models that it may make in a minute.
    tokens_per_minute
        Tokens of questions and answers in a minute.
    concurrency
        Calls of models at once.
    day_dollars
        What it may spend in a day, of UTC.
    month_dollars
        What it may spend in a month.
    """

    requests_per_minute: Count = None
    tokens_per_minute: Count = None
    concurrency: Count = None
    day_dollars: Said = None
    month_dollars: Said = None

    @property
    def allowance(self) -> KeyAllowance:
        """The same as it is kept. Raises CommandError as of `nanodollars`."""
        return KeyAllowance(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            concurrency=self.concurrency,
            day_nanodollars=nanodollars("--day-dollars", self.day_dollars),
            month_nanodollars=nanodollars("--month-dollars", self.month_dollars),
        )


NO_MOST = Most()


def check(wanted: NewKey) -> None:
    """Nothing, if such a key may be made.

    Raises:
        CommandError: it may not be; all that is wrong is told.
    """
    if not wanted.pipelines and not wanted.models:
        raise CommandError(
            "a key may do only what it is made for: name what it may run with --pipelines, what it "
            f"may ask without a pipeline with --models, or both ('*' is all):\n{EXAMPLE}",
            code=MISUSED,
        )
    try:
        check_wanted(wanted)
    except StoreError as error:
        raise CommandError(str(error), code=MISUSED) from error


def names(said: Iterable[str] | None) -> tuple[str, ...]:
    """Names from options that may come several times, each with commas between them."""
    words = (word.strip() for text in said or () for word in text.split(","))
    return tuple(dict.fromkeys(word for word in words if word))


def nanodollars(option: str, said: str | None) -> int | None:
    """Whole nano-dollars, exactly as they are written.

    Raises:
        CommandError: it is no number of dollars.
    """
    if said is None:
        return None
    from orchestra.policies.prices import NANODOLLARS  # not for each start of another command

    try:
        exact = Decimal(said) * NANODOLLARS
        found = int(exact)
    except (InvalidOperation, ValueError, OverflowError):
        found, exact = 0, Decimal(1)
    if found != exact:
        raise CommandError(
            f"{option} {said!r:.40} is not a number of dollars; write 5 or 0.25, with at most nine "
            "decimals",
            code=MISUSED,
        )
    return found


def unknown(names: Iterable[str], known: Iterable[str]) -> Iterable[str]:
    """What is told of names that nothing has yet: the key may have been made first."""
    known = {"*", *known}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            yield f"there is no model or route named {name!r} in this configuration{meant}"
