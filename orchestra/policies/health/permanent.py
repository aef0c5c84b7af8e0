"""Errors that every further request would get, too, as they do not depend on the request."""

from __future__ import annotations

from orchestra.errors import (
    ArmsFailedError,
    AuthenticationError,
    BindingError,
    BudgetExceededError,
    BudgetHeldError,
    ModelNotFoundError,
    ModelsFailedError,
    PermissionDeniedError,
    QuotaError,
    UnknownPriceError,
)
from orchestra.graph.calls.raised import is_of_code

_PERMANENT = (
    AuthenticationError,
    PermissionDeniedError,
    ModelNotFoundError,
    QuotaError,
    UnknownPriceError,
    BindingError,
)


def is_permanent(error: BaseException, *, within_run: bool) -> bool:
    """Whether every further request would get this error, and waiting would not help.

    These are errors about a key, a name or a budget that all requests need, or errors of the code
    that makes them, such as `asyncio.sleep` in a step. With `within_run`, the further requests are
    in the same run and share its budget; without it, they are in another run, with a budget of its
    own.
    """
    if isinstance(error, ArmsFailedError | ModelsFailedError):
        errors = error.errors.values()
        return bool(errors) and all(is_permanent(each, within_run=within_run) for each in errors)
    if isinstance(error, BudgetExceededError):
        of_all = within_run or error.resets_at_s is not None
        return of_all and not isinstance(error, BudgetHeldError)
    return isinstance(error, _PERMANENT) or (isinstance(error, Exception) and is_of_code(error))
