"""Every exception that orchestra raises, in one tree; `transcripts` adds `ApprovalNeededError`.

    OrchestraError
    ├── DefinitionError          the pipeline's function misuses a wire or a step
    ├── CheckError               `check` or `plan` found problems; carries all of them
    ├── InputError               a run was given the wrong inputs; names the field
    ├── BindingError             a name is not bound in this deployment
    ├── ConfigError              orchestra.toml is wrong; carries all its problems
    ├── RunError                 a run ended without a result
    │   ├── RunCancelledError    it was stopped; says why
    │   ├── LimitExceededError   a bound (time, size, number) was reached
    │   │   └── DeadlineError    ... and the bound was a time; also a TimeoutError
    │   ├── EdgeTypeError        a value does not have its annotated type
    │   ├── RouteError           a route has no arm for the label it was given
    │   ├── NoContentError       an arm of a race or fallback ended without content
    │   ├── RefusedError         an arm's answer was refused by `validate`
    │   ├── ArmsFailedError      every arm of a race or fallback failed; carries all of them
    │   │   └── NoQuorumError    ... or too many of a quorum failed or disagreed
    │   ├── DisagreedError       an arm of a quorum disagreed with the others
    │   ├── JudgeError           the judge of a `best_of` did not return the index of an answer
    │   ├── StepFailedError      a step raised several errors, or no Exception; carries them
    │   ├── RunLostError         its process died, or its events are no longer kept
    │   └── BatchError           a batch was stopped before its end; it can be resumed
    ├── ModelError               a model call failed; says whether it may be retried
    │   ├── AuthenticationError      the key is wrong
    │   ├── PermissionDeniedError    the key may not do this
    │   ├── InvalidRequestError      the request is refused, and would be again
    │   │   ├── ContextLengthError   ... because it is too long
    │   │   └── CapabilityError      ... because the model cannot do that
    │   ├── ContentFilterError       the provider's filter stopped it
    │   ├── ModelNotFoundError       the provider has no such model
    │   ├── RateLimitError           too many requests or tokens        (retryable)
    │   │   └── LimitReachedError    ... for a limit of this deployment; nothing was sent
    │   │       └── LimitUnknownError    ... whose state is unreachable; it fails "closed"
    │   ├── QuotaError               the money or the day's allowance is used up
    │   ├── OverloadedError          the provider has no capacity       (retryable)
    │   ├── ProviderServerError      an error inside the provider       (retryable)
    │   ├── ModelTimeoutError        too slow; also a TimeoutError      (retryable)
    │   ├── ModelConnectionError     no connection, or it broke         (retryable)
    │   ├── TruncatedStreamError     no finish reason: it was cut       (retryable)
    │   ├── MalformedStreamError     not in the provider's format       (retryable)
    │   ├── BreakerOpenError         failed too often; nothing was sent (retryable)
    │   ├── BudgetExceededError      a budget of this deployment is used up; see `budget`
    │   │   └── BudgetHeldError      ... for now: other calls hold it   (retryable)
    │   ├── UnknownPriceError        the model's price is unknown; nothing was sent
    │   ├── OutputError              the answer is complete, but not what was asked for
    │   └── ModelsFailedError        all models that a route tried failed; carries all of them
    ├── DocumentError            a file that was handed in cannot be read as its type
    ├── StoreError               a store failed, or was given values that do not fit
    ├── StateError               the state of policies, keys or runs cannot be read or changed
    └── ServeError               the server could not start

An exception of a step is never replaced: `run()` raises it, with a note of step and source line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestra import messages
from orchestra.pickling import reduced
from orchestra.problem import Problem


class OrchestraError(messages.OwnError):
    """The base class of every exception that orchestra itself raises."""

    __reduce__ = reduced


class DefinitionError(OrchestraError):
    """A pipeline or step is defined wrongly: for example, with an `if` on a wire."""


class CheckError(OrchestraError):
    """A pipeline has problems; `problems` holds every one of them."""

    def __init__(self, pipeline: str, problems: Sequence[Problem]) -> None:
        self.pipeline = pipeline
        self.problems = tuple(problems)
        count = messages.counted(len(problems), "problem")
        super().__init__(f"pipeline {pipeline!r} has {count}:\n" + "\n".join(map(str, problems)))


class InputError(OrchestraError):
    """A run's inputs do not fit its pipeline; `field` names the first that does not fit."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class BindingError(OrchestraError):
    """A name is not bound in this deployment, or its binding lacks something, such as a key."""


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
    """A bound was reached; `limit` is its name, such as `deadline_s`."""

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class DeadlineError(LimitExceededError, TimeoutError):
    """Time ran out; `limit` is `timeout_s`, `first_chunk_s`, `idle_s` or `deadline_s`."""

    @property
    def retryable(self) -> bool:
        """Whether a retry may help: only if the first chunk was late, as nothing was passed on."""
        return self.limit == "first_chunk_s"


class EdgeTypeError(RunError, TypeError):
    """A value does not have the type that its step has to return, or its reader to take."""


class RouteError(RunError):
    """A route was given a label for which it has no arm."""


class NoContentError(RunError):
    """An arm of a race or a fallback ended its stream without any content."""


class RefusedError(RunError):
    """The `validate` function of a race or a fallback refused the answer of an arm."""


class ArmsFailedError(RunError):
    """Every arm of a race or a fallback failed; `errors` maps each arm to its error, in order."""

    def __init__(self, message: str, errors: Mapping[str, BaseException]) -> None:
        self.errors = dict(errors)
        super().__init__(message + messages.listed(errors.items()))


class NoQuorumError(ArmsFailedError):
    """Too many arms of a quorum failed or disagreed; `values` maps the latter to their values."""

    def __init__(
        self, message: str, errors: Mapping[str, BaseException], values: Mapping[str, object]
    ) -> None:
        self.values = dict(values)
        lines = "".join(f"\n  {arm}: gave {value!r:.200}" for arm, value in values.items())
        super().__init__(message + lines, errors)


class DisagreedError(RunError):
    """An arm of a quorum gave another value than the one that the quorum agreed on."""


class JudgeError(RunError):
    """The judge of a `best_of` did not return the index of one of the answers it was given."""


class StepFailedError(RunError):
    """A step raised several errors at once, or no `Exception`; `errors` holds what it raised."""

    def __init__(self, message: str, errors: Sequence[BaseException]) -> None:
        self.errors = tuple(errors)
        super().__init__(message + messages.listed(("", error) for error in errors))


class RunLostError(RunError):
    """The events of a run are gone: its process has died, or they are no longer kept."""


class BatchError(RunError):
    """A batch stopped before its end; started again, it runs the rows that have no result yet."""


class ModelError(OrchestraError):
    """A model call failed; each subclass stands for one way in which the caller can react.

    `message` is the provider's text, or our own if the provider sent none. `retryable` says
    whether the same call may succeed later, and `retry_after_s` how many seconds the provider asks
    to wait. `begun` is True if a part of the call was sent, whatever the class. `name` is the
    model's name in this deployment. `provider`, `model`, HTTP `status`, `request_id` and the
    provider's own `code` are empty or None where unknown. No field ever contains a key.
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
        where, wait_s = " ".join(filter(None, (self.provider, self.model))), self.retry_after_s
        status = f"HTTP {self.status}" if self.status is not None else ""
        text = ": ".join(filter(None, (where, status, self.message)))
        wait = f"retry after {round(wait_s, 2):g} s" if wait_s is not None else ""
        notes = ", ".join(filter(None, (wait, self.request_id and f"request {self.request_id}")))
        return f"{text} ({notes})" if notes else text


class AuthenticationError(ModelError):
    """The provider does not know the key, or has revoked it: correct the configuration."""


class PermissionDeniedError(ModelError):
    """The key is valid but may not do this: use another model, region or key."""


class InvalidRequestError(ModelError):
    """The provider refuses the request; sent again unchanged, it is refused again."""


class ContextLengthError(InvalidRequestError):
    """Prompt and answer exceed the model's context: send less, or use a model with more context."""


class CapabilityError(InvalidRequestError):
    """The model cannot do what the request asks for: tools, images, files, a schema, embeddings."""


class ContentFilterError(ModelError):
    """The provider's content filter stopped the request or the answer."""


class ModelNotFoundError(ModelError):
    """The provider has no such model, deployment or address."""


class RateLimitError(ModelError):
    """Too many requests or tokens at the moment: wait `retry_after_s`, or use another model."""

    retryable = True


class LimitReachedError(RateLimitError):
    """A limit of this deployment was reached; `code` is its name, and nothing was sent."""


class LimitUnknownError(LimitReachedError):
    """The state that counts for a limit is unreachable, and its `when_state_fails` is "closed"."""


class QuotaError(ModelError):
    """The money or the day's allowance is used up: waiting a few seconds does not help."""


class OverloadedError(ModelError):
    """The provider has no capacity at the moment, for any client."""

    retryable = True


class ProviderServerError(ModelError):
    """The provider had an internal error."""

    retryable = True


class ModelTimeoutError(ModelError, TimeoutError):
    """The provider was too slow; if a timeout of ours was reached, `code` is its name."""

    retryable = True


class ModelConnectionError(ModelError):
    """The provider could not be reached, or the connection broke."""

    retryable = True


class TruncatedStreamError(ModelError):
    """The stream ended without a finish reason: the answer was cut."""

    retryable = True


class MalformedStreamError(ModelError):
    """The provider sent something that its format does not allow, or an answer that is too long."""

    retryable = True


class BreakerOpenError(ModelError):
    """The model failed too often: its breaker is open for `retry_after_s`, and nothing was sent."""

    retryable = True


class BudgetExceededError(ModelError):
    """A budget has too little left for the call or, if the call had `begun`, for the rest of it.

    `budget` names its owner and period: "organisation acme, a month". The amounts are what is
    spent, what calls under way hold, and the limit. The budget resets at `resets_at_s`, in seconds
    since 1970; None means never.
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
    """Other calls hold what is left of the budget, and will release what they do not spend."""

    retryable = True


class UnknownPriceError(ModelError):
    """The price of the model is unknown, and the configuration refuses such calls."""


class OutputError(ModelError):
    """The answer is complete, but not what was asked for: for example, it does not fit `returns`.

    `raw` is its text; each of `problems` begins with the path of the fault (`lines[0].price`).
    """

    def __init__(
        self, message: str, *, raw: str = "", problems: Sequence[str] = (), model: str = ""
    ) -> None:
        self.raw = raw
        self.problems = tuple(problems)
        super().__init__(message + "".join(f"\n  {each}" for each in problems), model=model)


class ModelsFailedError(ModelError):
    """Every model that a route tried has failed; `errors` maps each to its error, in order.

    Retryable if any of them is; `retry_after_s` is the shortest of these, if all of these have one.
    """

    def __init__(self, message: str, errors: Mapping[str, ModelError], *, model: str = "") -> None:
        self.errors = dict(errors)
        waits = [error.retry_after_s for error in errors.values() if error.retryable]
        known = [wait for wait in waits if wait is not None]
        least_s = min(known) if known and len(known) == len(waits) else None
        message += messages.listed(errors.items())
        super().__init__(message, retryable=bool(waits), retry_after_s=least_s, model=model)


class DocumentError(OrchestraError):
    """A file that was handed in cannot be read as its type; the message names the file."""


class StoreError(OrchestraError):
    """A store of vectors or keys cannot be read or changed, or was given values that do not fit."""


class StateError(OrchestraError):
    """The state of policies, keys or runs is unreachable, too slow, or cannot be read."""


class ServeError(OrchestraError):
    """The server could not start as it was asked to."""
