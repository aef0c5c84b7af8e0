"""What stands around a configured model."""

from __future__ import annotations

from orchestra.policies.limits.limited import CallerLimitedModel
from orchestra.protocols import Model


def unlimited(model: Model) -> Model:
    """What is behind the limits of callers, which are around every model."""
    assert isinstance(model, CallerLimitedModel)
    return model.model
