"""Who calls, and what it costs: the values that accounts are kept in.

Money is whole nano-dollars (10**9 to the dollar): a token of a small model costs 50 of them, and
sums are exact.
"""

from __future__ import annotations

from enum import Enum

import attrs

from orchestra.eventclass import frozen

UNSENT = "nothing of the request had been sent"
"""The note of a cancellation (`add_note`) before a byte of a call's request was sent: it is free.

An error says so by its code; a `Cancelled` has none.
"""


@frozen(kw_only=True)
class KeyAllowance:
    """The limits of one API key, on top of its user's and organisation's; None is no limit.

    Money is in nano-dollars; days and months are in UTC.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    runs: int | None = None
    day_nanodollars: int | None = None
    month_nanodollars: int | None = None


NO_ALLOWANCE = KeyAllowance()


@frozen(cache_hash=True)
class Caller:
    """On whose behalf a run is made; names are the deployment's own, "" where there is none.

    `key` is the public part of the API key that the request came with. A caller without names
    has no limits and budgets but those of the deployment as a whole.
    """

    organisation: str = ""
    user: str = ""
    key: str = ""
    allowance: KeyAllowance = NO_ALLOWANCE
    end_user: bool = False
    """Whether the user is one that the key named, which may act for those of its organisation."""

    def __repr__(self) -> str:
        """As it is written: in what a test prints, most have two names."""
        said = [repr(self.organisation), repr(self.user)]
        if self.key:
            said.append(f"key={self.key!r}")
        if self.allowance != NO_ALLOWANCE:
            said.append(f"allowance={self.allowance!r}")
        if self.end_user:
            said.append("end_user=True")
        return f"Caller({', '.join(said)})"

    @property
    def tenant(self) -> str:
        """Who sees the same runs and may share answers: the organisation, else the user.

        An end user is alone, also within the organisation.
        """
        return f"end-user:{self.full_user}" if self.end_user else self.fairness_key

    @property
    def fairness_key(self) -> str:
        """Among whom room is divided: organisations, with all their end users, else users."""
        if self.organisation:
            return f"organisation:{self.organisation}"
        return f"user:{self.user}" if self.user else ""

    @property
    def full_user(self) -> str:
        """The user, distinct from users of the same name in other organisations.

        A `/` in a name, which no key has, is escaped as `%2F`.
        """
        organisation, user = map(_without_slash, (self.organisation, self.user))
        return f"{organisation}/{user}" if organisation else user


def _without_slash(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F") if "/" in name or "%" in name else name


def check_count(of: object, field: attrs.Attribute[int], count: object) -> None:
    """Check a number of tokens, or of nanodollars: a stored budget with another cannot be read.

    Raises:
        ValueError: it is not a whole number from 0 on.
    """
    if type(count) is not int or count < 0:
        what = f"{type(of).__name__}({field.name}={count!r:.40})"
        raise ValueError(f"{what}: write a whole number from 0 on")


check_most = attrs.validators.optional(check_count)
"""As `check_count`, for a number that may be None."""


class Certainty(Enum):
    """Where a usage record comes from."""

    EXACT = "exact"
    """Counted by the provider, for the whole answer."""
    PARTIAL = "partial"
    """Counted by the provider, but the answer was cut before its last count, or one is missing."""
    ESTIMATED = "estimated"
    """Estimated here, from the number of bytes."""


@frozen
class Usage:
    """Tokens that a call consumed, and what they cost.

    `input_tokens` includes those read from and written to the provider's cache, and
    `output_tokens` those it reasoned with: the parts are never added to the whole.

    Raises:
        ValueError: one of them is not a whole number from 0 on.
    """

    input_tokens: int = attrs.field(default=0, validator=check_count)
    output_tokens: int = attrs.field(default=0, validator=check_count)
    certainty: Certainty = Certainty.EXACT
    cached_input_tokens: int = attrs.field(default=0, validator=check_count)
    cache_write_input_tokens: int = attrs.field(default=0, validator=check_count)
    reasoning_tokens: int = attrs.field(default=0, validator=check_count)
    cost_nanodollars: int = attrs.field(default=0, validator=check_count)
    """The cost, of the calls whose price is known."""
    unpriced_calls: int = attrs.field(default=0, validator=check_count)
    """Calls whose price is not known; they are not in the cost."""
    _settled: bool = attrs.field(default=False, eq=False, repr=False)

    @property
    def settled(self) -> bool:
        """Whether the account of the calling step has it already."""
        return self._settled

    def as_settled(self) -> Usage:
        """The same, marked as already in the account."""
        return Usage(  # as `attrs.evolve`, which looks up the fields each time
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
        """Both together, as certain as the less certain of the two."""
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
"""The numeric fields of a usage."""
