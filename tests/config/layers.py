"""The layers of policies around a configured model."""

from __future__ import annotations

from orchestra.policies.limits.limited import CallerLimitedModel
from orchestra.protocols import Model


def unlimited(model: Model) -> Model:
    """The model inside the limits of callers, which are the outermost layer."""
    assert isinstance(model, CallerLimitedModel)
    return model.model
