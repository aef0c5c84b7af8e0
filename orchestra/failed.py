"""Failed: takes the place of an item's value when an `each` continues after the item failed.

It is a value and not an exception: it is passed on, stored and written as JSON like any other.
"""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from orchestra.errors import ModelError
from orchestra.eventclass import frozen

A = TypeVar("A")


@frozen
class ModelFacts:
    """The fields of a `ModelError` besides its message, unchanged; no field ever holds a key."""

    name: str
    provider: str
    model: str
    status: int | None
    code: str
    request_id: str
    retry_after_s: float | None

    @classmethod
    def of(cls, error: ModelError) -> ModelFacts:
        """The facts of this error."""
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
    """An item of an `each(..., failures_max=...)` that failed: which one, and why.

    `index` is its position among the items, from 0. `error` is the class name of the exception,
    `message` its message, and `step` the path of the step that raised it. `retryable` says whether
    the item may succeed later; `model` is None unless a model call failed. In JSON, `kind`
    distinguishes it from a value.
    """

    index: int
    item: A
    error: str
    message: str
    step: str
    retryable: bool = False
    model: ModelFacts | None = None
    kind: Literal["failed"] = "failed"
