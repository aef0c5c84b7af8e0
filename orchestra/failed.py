"""Failed: what stands in the place of an item's value, where an `each` goes on without it.

A value and not an exception: it is passed on, stored and written as JSON like any other.
"""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from orchestra.errors import ModelError
from orchestra.eventclass import frozen

A = TypeVar("A")


@frozen
class ModelFacts:
    """What a `ModelError` tells besides its message, as there; no field ever holds a key."""

    name: str
    provider: str
    model: str
    status: int | None
    code: str
    request_id: str
    retry_after_s: float | None

    @classmethod
    def of(cls, error: ModelError) -> ModelFacts:
        """Those of this error."""
        return cls(
            error.name,
            error.provider,
            error.model,
            error.status,
            error.code,
            error.request_id,
            error.retry_after_s,
        )


@frozen
class Failed(Generic[A]):
    """An item of an `each(..., failures_max=...)` that gave no value: which, and why.

    `index` is its place among the items, from 0. `error` is the class of what it failed with,
    `message` what that says, and `step` the path of the step that raised it. `retryable` says
    whether the item may succeed later; `model` is None where no call of a model failed.
    In JSON, `kind` tells it from a value.
    """

    index: int
    item: A
    error: str
    message: str
    step: str
    retryable: bool = False
    model: ModelFacts | None = None
    kind: Literal["failed"] = "failed"
