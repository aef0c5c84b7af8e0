"""Accounting values: who makes a call, what it consumed, and what it cost.

Money is counted in whole nano-dollars (10**9 to the dollar), so that sums are exact: one token of
a small model costs about 50 of them.
"""

from __future__ import annotations

from enum import Enum

import attrs

from orchestra.eventclass import event, frozen, not_default
from orchestra.surrogates import is_utf8

UNSENT = "nothing of the request had been sent"
"""The note (`add_note`) of a `Cancelled` that came before any byte of the request was sent.

Such a call costs nothing. Errors say this by their `code`; a `Cancelled` has no such field.
"""


@frozen(kw_only=True)
class KeyAllowance:
    """The limits of one API key, on top of those of its user and organisation; None means no limit.

    Money is in nano-dollars; days and months are in UTC.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    runs: int | None = None
    day_nanodollars: int | None = None
    month_nanodollars: int | None = None


NO_ALLOWANCE = KeyAllowance()


def _check_name(of: object, field: attrs.Attribute[str], name: str) -> None:
    if not is_utf8(name):
        what = f"{type(of).__name__}({field.name}={name!r:.40})"
        raise ValueError(
            f"{what} contains half of a character (a lone surrogate), which cannot be stored; "
            "remove it"
        )


@frozen(cache_hash=True)
class Caller:
    """Who a run is made for, by the names that this deployment uses; "" where there is no name.

    `key` is the public part of the API key that the request was sent with. A caller without names
    is subject only to the limits and budgets of the deployment as a whole.

    Raises:
        ValueError: a name contains a lone surrogate.
    """

    organisation: str = attrs.field(default="", validator=_check_name)
    user: str = attrs.field(default="", validator=_check_name)
    key: str = attrs.field(default="", validator=_check_name)
    allowance: KeyAllowance = NO_ALLOWANCE
    end_user: bool = False
    """Whether `user` was named by the request, with a key that may act for its end users."""

    def __repr__(self) -> str:
        """As code, without the fields that have their default: `Caller('acme', 'ann')`."""
        rest = not_default(self, "key", "allowance", "end_user")
        return f"Caller({', '.join([repr(self.organisation), repr(self.user), *rest])})"

    @property
    def tenant(self) -> str:
        """Callers with the same tenant see the same runs and may share cached answers.

        It is the organisation, or the user where there is none. Each end user is a tenant of its
        own, also within one organisation.
        """
        return f"end-user:{self.full_user}" if self.end_user else self.fairness_key

    @property
    def fairness_key(self) -> str:
        """Capacity is divided by this key: the organisation with its end users, else the user."""
        if self.organisation:
            return f"organisation:{self.organisation}"
        return f"user:{self.user}" if self.user else ""

    @property
    def full_user(self) -> str:
        """The user's name, unique across organisations: `organisation/user`.

        A `/` in a name is escaped as `%2F`; names in API keys have none.
        """
        organisation, user = map(_without_slash, (self.organisation, self.user))
        return f"{organisation}/{user}" if organisation else user


def _without_slash(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F") if "/" in name or "%" in name else name


def check_count(of: object, field: attrs.Attribute[int], count: object) -> None:
    """Check a count of tokens or nano-dollars: a stored budget with any other value is unreadable.

    Raises:
        ValueError: the count is not an integer of 0 or more.
    """
    if type(count) is not int or count < 0:
        what = f"{type(of).__name__}({field.name}={count!r:.40})"
        raise ValueError(f"{what}: write an integer of 0 or more")


check_most = attrs.validators.optional(check_count)
"""Like `check_count`, for a count that may be None."""


class Certainty(Enum):
    """How reliable a usage record is."""

    EXACT = "exact"
    """Counted by the provider, for the whole answer."""
    PARTIAL = "partial"
    """Counted by the provider, but a count is missing, or the answer was cut before the last."""
    ESTIMATED = "estimated"
    """Estimated here, from the number of bytes."""


@event
class Usage:
    """The tokens that a call consumed, and what they cost.

    `input_tokens` already includes the tokens read from and written to the provider's cache, and
    `output_tokens` the reasoning tokens: never add these parts to the totals.

    Raises:
        ValueError: a count is not an integer of 0 or more.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    certainty: Certainty = Certainty.EXACT
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nanodollars: int = 0
    """The cost of the calls whose price is known."""
    unpriced_calls: int = 0
    """How many calls have an unknown price; `cost_nanodollars` does not include them."""
    _settled: bool = attrs.field(default=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for count in (
            self.input_tokens,
            self.output_tokens,
            self.cached_input_tokens,
            self.cache_write_input_tokens,
            self.reasoning_tokens,
            self.cost_nanodollars,
            self.unpriced_calls,
        ):
            if type(count) is not int or count < 0:  # a validator of each field would cost more
                for name in USAGE_COUNTS:
                    check_count(self, getattr(attrs.fields(Usage), name), getattr(self, name))

    @property
    def settled(self) -> bool:
        """Whether it was already added to the account of the calling step."""
        return self._settled

    def as_settled(self) -> Usage:
        """The same usage, marked as already added to the account."""
        return Usage(  # faster than `attrs.evolve`, which looks up the fields each time
            self.input_tokens,
            self.output_tokens,
            self.certainty,
            self.cached_input_tokens,
            self.cache_write_input_tokens,
            self.reasoning_tokens,
            self.cost_nanodollars,
            self.unpriced_calls,
            settled=True,
        )

    def __add__(self, other: Usage) -> Usage:
        """The sum of both, with the lower of the two certainties."""
        order = list(Certainty)
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            max(self.certainty, other.certainty, key=order.index),
            self.cached_input_tokens + other.cached_input_tokens,
            self.cache_write_input_tokens + other.cache_write_input_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cost_nanodollars + other.cost_nanodollars,
            self.unpriced_calls + other.unpriced_calls,
            self.settled and other.settled,
        )


USAGE_COUNTS = tuple(
    field.name for field in attrs.fields(Usage) if field.name not in ("certainty", "_settled")
)
"""The names of the numeric fields of `Usage`."""


def add_to(usages: dict[str, Usage], name: str, usage: Usage) -> None:
    """Add the usage to that of this name, such as a step or a model."""
    so_far = usages.get(name)
    usages[name] = usage if so_far is None else so_far + usage
