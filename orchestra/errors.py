"""Every exception that orchestra raises, in one tree.

    OrchestraError
    ├── DefinitionError          the pipeline's function misuses a wire or a step
    ├── CheckError               `check` or `plan` found problems; carries all of them
    ├── InputError               a run was given the wrong inputs; names the field
    ├── BindingError             a name that this deployment does not have
    ├── ConfigError              orchestra.toml is wrong; carries all its problems
    ├── RunError                 a run could not give its result
    │   ├── RunCancelledError    somebody stopped it; says why
    │   ├── LimitExceededError   a bound (time, size, number) was reached
    │   │   └── DeadlineError    ... and the bound was a time; also a TimeoutError
    │   ├── EdgeTypeError        a value is not of the type that is written there
    │   ├── RouteError           a route was given a label without an arm
    │   ├── NoContentError       an arm of a race or fallback ended without saying anything
    │   ├── RefusedError         an arm's answer was refused by `validate`
    │   ├── ArmsFailedError      every arm of a race or fallback failed; carries all of them
    │   │   └── NoQuorumError    ... or too many of a quorum failed or said something else
    │   ├── DisagreedError       an arm of a quorum said something else than the others
    │   ├── JudgeError           the judge of a `best_of` gave no index of an answer
    │   ├── StepFailedError      a step failed in several ways at once; carries all of them
    │   ├── RunLostError         the process that ran it has died, or it is kept no longer
    │   └── BatchError           many runs were stopped together; a batch can be begun again
    ├── ModelError               a model call failed; says whether it may be retried
    │   ├── AuthenticationError      the key is wrong
    │   ├── PermissionDeniedError    the key may not do this
    │   ├── InvalidRequestError      the request is refused as it is
    │   │   ├── ContextLengthError   ... because it is too long
    │   │   └── CapabilityError      ... because the model cannot do that
    │   ├── ContentFilterError       the provider's filter stopped it
    │   ├── ModelNotFoundError       there is no such model there
    │   ├── RateLimitError           too much for now                   (retryable)
    │   │   └── LimitReachedError    ... by a limit of our own; nothing was asked
    │   │       └── LimitUnknownError    ... whose state is away, and which says "closed"
    │   ├── QuotaError               the money is used up
    │   ├── OverloadedError          no room at the provider            (retryable)
    │   ├── ProviderServerError      the provider broke                 (retryable)
    │   ├── ModelTimeoutError        too slow; also a TimeoutError      (retryable)
    │   ├── ModelConnectionError     not reached, or the line broke     (retryable)
    │   ├── TruncatedStreamError     it ended without a finish reason   (retryable)
    │   ├── MalformedStreamError     it is not in the provider's format (retryable)
    │   ├── BreakerOpenError         it failed too often; nothing was asked (retryable)
    │   ├── BudgetExceededError      a budget of our own is used up; see `budget`
    │   │   └── BudgetHeldError      ... for now: other calls hold the rest (retryable)
    │   ├── UnknownPriceError        what it costs is not known; nothing was asked
    │   ├── OutputError              a whole answer, but not what was asked for
    │   └── ModelsFailedError        several models of a route failed; carries each error
    ├── DocumentError            a file that was handed in cannot be read as what it is
    ├── StoreError               a store could not do what it was asked
    ├── StateError               what policies remember is gone, or out of reach
    └── ServeError               the server could not start

A step's own exception is never replaced: `run()` raises it, with a note of step and source line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestra import messages
from orchestra.pickling import reduced
from orchestra.problem import Problem


class OrchestraError(messages.OwnError):
    """The root of everything that orchestra raises by itself."""

    __reduce__ = reduced


class DefinitionError(OrchestraError):
    """A pipeline or step is written wrongly: it has an `if` on a wire, for instance."""


class CheckError(OrchestraError):
    """A pipeline has problems; `problems` holds every one of them."""

    def __init__(self, pipeline: str, problems: Sequence[Problem]) -> None:
        self.pipeline = pipeline
        self.problems = tuple(problems)
        count = f"{len(problems)} problem" + ("s" if len(problems) != 1 else "")
        super().__init__(f"pipeline {pipeline!r} has {count}:\n" + "\n".join(map(str, problems)))


class InputError(OrchestraError):
    """A run's inputs do not fit its pipeline; `field` names the first that does not."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class BindingError(OrchestraError):
    """This deployment has nothing of that name, or lacks what it needs, such as a key."""


class ConfigError(OrchestraError):
    """The configuration is wrong; `problems` holds every problem, with file, line and key."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class RunError(OrchestraError):
    """A run ended without a result."""


class RunCancelledError(RunError):
    """The run was stopped before its end; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the run was cancelled: {reason}")
        self.reason = reason


class LimitExceededError(RunError):
    """A bound was reached; `limit` is its name, as it is written in the code."""

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class DeadlineError(LimitExceededError, TimeoutError):
    """Time ran out; `limit` is `timeout_s`, `first_chunk_s`, `idle_s` or `deadline_s`."""

    @property
    def retryable(self) -> bool:
        """Whether it may succeed later: where a first chunk was late, nothing was passed on."""
        return self.limit == "first_chunk_s"


class EdgeTypeError(RunError, TypeError):
    """A value is not of the type that its step is annotated to return, or that its reader takes."""


class RouteError(RunError):
    """A route was given a label for which it has no arm."""


class NoContentError(RunError):
    """An arm of a race or a fallback ended its stream without any content."""


class RefusedError(RunError):
    """`validate` of a race or a fallback refused the answer of an arm."""


class ArmsFailedError(RunError):
    """Every arm of a race or a fallback failed; `errors` maps each arm to its error, in order."""

    def __init__(self, message: str, errors: Mapping[str, BaseException]) -> None:
        self.errors = dict(errors)
        super().__init__(message + messages.listed(errors.items()))


class NoQuorumError(ArmsFailedError):
    """Too many arms of a quorum failed or disagreed; `said` maps the latter to their answers."""

    def __init__(
        self, message: str, errors: Mapping[str, BaseException], said: Mapping[str, object]
    ) -> None:
        self.said = dict(said)
        lines = "".join(f"\n  {arm}: said {value!r:.200}" for arm, value in said.items())
        super().__init__(message + lines, errors)


class DisagreedError(RunError):
    """An arm of a quorum gave another answer than the one that the quorum agreed on."""


class JudgeError(RunError):
    """The judge of a `best_of` did not return the index of one of the answers it was given."""


class StepFailedError(RunError):
    """A step raised several errors at once; `errors` holds them, the earliest first."""

    def __init__(self, message: str, errors: Sequence[BaseException]) -> None:
        self.errors = tuple(errors)
        super().__init__(message + messages.listed(("", error) for error in errors))


class RunLostError(RunError):
    """The events of a run are gone: its process has died, or they are kept no longer."""


class BatchError(RunError):
    """A batch stopped before its end; started again, it does the rows that have no result yet."""


class ModelError(OrchestraError):
    """A model call failed; each subclass stands for one thing that the caller can do about it.

    `message` is the provider's text, or ours if it never answered. `retryable` says whether the
    same call may succeed later, and `retry_after_s` how many seconds the provider asks to wait;
    `begun`, that something of the call was sent, whatever the class says. `name` is the model's
    name in this deployment; `provider`, `model`, HTTP `status`, `request_id` and `code` (the
    provider's) are empty, or None, where they are not known. No field has a key.
    """

    retryable: bool = False
    name: str = ""
    begun: bool = False

    def __init__(
        self,
        message: str,
        *,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
        status: int | None = None,
        code: str = "",
        provider: str = "",
        model: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = self.retryable if retryable is None else retryable
        self.retry_after_s = retry_after_s
        self.status, self.code = status, code
        self.provider, self.model, self.request_id = provider, model, request_id

    def __str__(self) -> str:
        where = " ".join(filter(None, (self.provider, self.model)))
        status = f"HTTP {self.status}" if self.status is not None else ""
        said = ": ".join(filter(None, (where, status, self.message)))
        wait = f"retry after {self.retry_after_s:g} s" if self.retry_after_s is not None else ""
        notes = ", ".join(filter(None, (wait, self.request_id and f"request {self.request_id}")))
        return f"{said} ({notes})" if notes else said


class AuthenticationError(ModelError):
    """The provider does not know the key, or has revoked it: mend the configuration."""


class PermissionDeniedError(ModelError):
    """The key is known, and may not do this: another model, region or key."""


class InvalidRequestError(ModelError):
    """The provider refuses the request as it is; sent again it is refused again."""


class ContextLengthError(InvalidRequestError):
    """Prompt and answer do not fit the model: ask for less, or a model with more context."""


class CapabilityError(InvalidRequestError):
    """The model cannot do what the request asks for: tools, images, files, a schema, embeddings."""


class ContentFilterError(ModelError):
    """The provider's filter stopped the question or the answer."""


class ModelNotFoundError(ModelError):
    """The provider has no such model, deployment or address."""


class RateLimitError(ModelError):
    """Too many requests or tokens for now: wait `retry_after_s`, or ask somebody else."""

    retryable = True


class LimitReachedError(RateLimitError):
    """A limit of this deployment's own; `code` is its name, and the provider was not asked."""


class LimitUnknownError(LimitReachedError):
    """The state that counts for a limit is out of reach, and `when_state_fails` is "closed"."""


class QuotaError(ModelError):
    """The money or the day's allowance is used up: waiting some seconds does not help."""


class OverloadedError(ModelError):
    """The provider has no room at the moment, for anybody."""

    retryable = True


class ProviderServerError(ModelError):
    """Something broke at the provider."""

    retryable = True


class ModelTimeoutError(ModelError, TimeoutError):
    """The provider was too slow; where a bound of ours was reached, `code` is its name."""

    retryable = True


class ModelConnectionError(ModelError):
    """The provider could not be reached, or the connection broke."""

    retryable = True


class TruncatedStreamError(ModelError):
    """The stream ended without a finish reason: the answer was cut."""

    retryable = True


class MalformedStreamError(ModelError):
    """The provider sent something that its own format does not allow."""

    retryable = True


class BreakerOpenError(ModelError):
    """The model failed too often, so its breaker is open for `retry_after_s`; it was not asked."""

    retryable = True


class BudgetExceededError(ModelError):
    """A budget has no room for the call or, if that had `begun`, for the rest of it.

    `budget` says whose it is: "organisation acme, a month". The amounts are spent, held by calls
    under way, and its limit. It begins anew at `resets_at_s`, in seconds since 1970: None, never.
    """

    def __init__(
        self,
        message: str,
        *,
        budget: str = "",
        spent_nanodollars: int = 0,
        held_nanodollars: int = 0,
        limit_nanodollars: int = 0,
        resets_at_s: float | None = None,
        model: str = "",
    ) -> None:
        super().__init__(message, code="budget", model=model)
        self.budget = budget
        self.spent_nanodollars, self.held_nanodollars = spent_nanodollars, held_nanodollars
        self.limit_nanodollars, self.resets_at_s = limit_nanodollars, resets_at_s


class BudgetHeldError(BudgetExceededError):
    """Other calls hold what is left of the budget; they give back what they do not spend."""

    retryable = True


class UnknownPriceError(ModelError):
    """Nobody knows what the model costs, and the configuration refuses such calls."""


class OutputError(ModelError):
    """A whole answer came, but not what was asked for: it does not fit `returns`, for instance.

    `raw` is its text; `problems` lists what is wrong, each with its path (`lines[0].price`).
    """

    def __init__(
        self, message: str, *, raw: str = "", problems: Sequence[str] = (), model: str = ""
    ) -> None:
        self.raw = raw
        self.problems = tuple(problems)
        super().__init__(message + "".join(f"\n  {each}" for each in problems), model=model)


class ModelsFailedError(ModelError):
    """Every model that a route asked has failed; `errors` maps each to its error, in order.

    It may be retried if one of them may; `retry_after_s` is the shortest, if each of those has one.
    """

    def __init__(self, message: str, errors: Mapping[str, ModelError], *, model: str = "") -> None:
        self.errors = dict(errors)
        waits = [error.retry_after_s for error in errors.values() if error.retryable]
        known = [wait for wait in waits if wait is not None]
        least_s = min(known) if known and len(known) == len(waits) else None
        message += messages.listed(errors.items())
        super().__init__(message, retryable=bool(waits), retry_after_s=least_s, model=model)


class DocumentError(OrchestraError):
    """A file that was handed in cannot be read as the type that it has; the message names it."""


class StoreError(OrchestraError):
    """A store of vectors or keys cannot be read or changed, or was given what does not fit."""


class StateError(OrchestraError):
    """The state of policies, keys or runs is out of reach or too slow to be read or changed."""


class ServeError(OrchestraError):
    """The server could not start as it was asked to."""
