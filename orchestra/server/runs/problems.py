"""The problem of a run without a result. Pure.

The `type` tells the client what it can do about the problem, and whose fault it is. It is that of
the first entry of `KINDS` whose class the error has.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import msgspec

from orchestra import errors
from orchestra.codecs.serving.decisive import (
    UNKNOWN_WAIT_S,
    Decisive,
    decisive,
    whole_seconds,
)
from orchestra.event_lines import written
from orchestra.events import RunCancelled, RunFailed
from orchestra.messages import class_name, message, own_error
from orchestra.server.responses import caller_problems
from orchestra.server.responses.fit_messages import fit_message
from orchestra.server.responses.problems import MEDIA_TYPE, Encoded, Fault, HttpProblem, Told
from orchestra.transcripts import ApprovalNeededError


class Kind(msgspec.Struct, frozen=True):
    """How a class of errors is reported to clients."""

    error: type[errors.OrchestraError]
    status: int
    code: str
    title: str


KINDS: Sequence[Kind] = (
    Kind(errors.BudgetHeldError, 429, "budget-held", "Your other calls hold your budget."),
    Kind(errors.BudgetExceededError, 402, "budget-exceeded", "Your budget has no room for it."),
    Kind(errors.LimitUnknownError, 503, "state-unreachable", "The state cannot be reached."),
    Kind(errors.LimitReachedError, 429, "rate-limited", "You have reached a limit."),
    Kind(errors.InputError, 422, "bad-inputs", "An input is missing, unknown or wrong."),
    Kind(errors.DocumentError, 422, "unreadable-document", "The document cannot be read."),
    Kind(errors.ContextLengthError, 422, "context-too-long", "The request does not fit the model."),
    Kind(errors.CapabilityError, 422, "not-capable", "The model cannot do this."),
    Kind(errors.InvalidRequestError, 422, "model-refused", "The model refuses the request."),
    Kind(errors.ContentFilterError, 422, "content-filtered", "A content filter stopped it."),
    Kind(errors.AuthenticationError, 502, "provider-key", "The provider refuses our key."),
    Kind(
        errors.PermissionDeniedError, 502, "provider-permission", "The provider denies us access."
    ),
    Kind(errors.ModelNotFoundError, 502, "provider-model", "The provider has no such model."),
    Kind(errors.RateLimitError, 503, "provider-rate", "The provider limits our rate."),
    Kind(errors.QuotaError, 503, "provider-quota", "The provider's quota is used up."),
    Kind(errors.OverloadedError, 503, "provider-overloaded", "The provider is overloaded."),
    Kind(errors.BreakerOpenError, 503, "model-unavailable", "The model is unavailable for now."),
    Kind(errors.ModelTimeoutError, 504, "provider-timeout", "The provider was too slow."),
    Kind(errors.UnknownPriceError, 500, "unknown-price", "The price of the call is unknown."),
    Kind(errors.ModelError, 502, "provider-failed", "The provider failed."),
    Kind(ApprovalNeededError, 409, "approval-needed", "A person has to approve a tool call."),
    Kind(errors.DeadlineError, 504, "deadline-exceeded", "Time ran out."),
    Kind(errors.StateError, 503, "state-unreachable", "The state cannot be reached."),
    Kind(errors.BindingError, 500, "not-configured", "The server is not set up for this."),
)
"""The first class that fits decides; other errors are faults of the pipeline, `run-failed`."""
_TOO_MANY = 429
"""Clients retry a 429, so it always has a `Retry-After`."""
FAILED = Kind(errors.OrchestraError, 500, "run-failed", "The run failed.")


def failed_run(
    run_id: str, event: RunFailed | RunCancelled, error: BaseException | None = None
) -> HttpProblem:
    """The problem of a run that ended with `event`, which must be fit for clients already.

    `error` is the exception, if it is known: it says how long to wait before a retry. If it
    contains the errors of several arms or models, the `decisive` one of them counts.
    """
    run = ("run_id", run_id)
    if isinstance(event, RunCancelled):
        detail = f"the run was cancelled: {event.reason}"
        return HttpProblem(503, "run-cancelled", "The run was cancelled.", detail, extras=(run,))
    found = decisive(error) if error is not None else None
    kind = _kind(own_error(event.error) if found is None else type(found.error))
    extras: list[tuple[str, object]] = [run, ("error", event.error)]
    extras += [(key, value) for key in ("step", "where") if (value := getattr(event, key))]
    match found:
        case Decisive(error=errors.LimitReachedError() as refusal):
            extras += caller_problems.your_rate(refusal).extras
        case Decisive(error=errors.BudgetExceededError() as refusal):
            extras += caller_problems.your_budget(refusal).extras
    detail = f"{event.error}: {event.message}"
    if own_error(event.error) and event.message:  # our messages need no class name before them
        detail = event.message
    faults: tuple[Fault, ...] = ()
    if isinstance(error, errors.InputError) and error.field is not None:
        faults = (Fault(error.field, f"#/inputs/{error.field}", event.message),)
    return HttpProblem(
        kind.status, kind.code, kind.title, detail, faults, tuple(extras), _waits(found, kind)
    )


def problem_again(run_id: str, event: RunFailed | RunCancelled) -> Told:
    """The problem of an ended run once more, from its last event as clients got it."""
    if isinstance(event, RunCancelled) or event.problem is None:
        return failed_run(run_id, event)
    wait_s, body = event.retry_after_s, {**event.problem, "run_id": run_id}
    headers = () if wait_s is None else (("Retry-After", str(wait_s)),)
    return Encoded(body["status"], written(body), headers, MEDIA_TYPE)


def problem_of(error: BaseException) -> HttpProblem:
    """The problem with which `orchestra serve` answers if a run raises this error.

    For a web framework of your own: it has a `status`, `headers` and a `media_type`, and `encode()`
    gives the body. As there, messages that are not for clients are left out.
    """
    if isinstance(error, errors.RunCancelledError):
        return _without_run(RunCancelled(0, 0.0, error.reason), error)
    name = class_name(error)
    return _without_run(RunFailed(0, 0.0, name, fit_message(name, message(error))), error)


def _without_run(event: RunFailed | RunCancelled, error: BaseException | None) -> HttpProblem:
    problem = failed_run("", event, error)
    return msgspec.structs.replace(problem, extras=problem.extras[1:])  # no `run_id`


def with_problem(event: RunFailed, cause: BaseException | None) -> RunFailed:
    """The event, fit for clients already, with the problem of `cause` as its answer has it."""
    problem = _without_run(event, cause)
    wait_s = dict(problem.headers).get("Retry-After")
    return attrs.evolve(
        event, problem=problem.body, retry_after_s=None if wait_s is None else int(wait_s)
    )


def kind_of(error: BaseException) -> Kind:
    """How an error is reported; of an error that contains several, the decisive one counts."""
    return _kind(type(decisive(error).error))


def _kind(error: type[BaseException] | None) -> Kind:
    return next((kind for kind in KINDS if error and issubclass(error, kind.error)), FAILED)


def _waits(found: Decisive | None, kind: Kind) -> tuple[tuple[str, str], ...]:
    if found is not None:
        wait_s = found.retry_after_s
    else:  # a run of another process: only the name of its error is known
        wait_s = UNKNOWN_WAIT_S if kind.status == _TOO_MANY else None
    return () if wait_s is None else (("Retry-After", whole_seconds(wait_s)),)
