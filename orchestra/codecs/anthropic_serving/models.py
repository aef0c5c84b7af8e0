"""The list of models in Anthropic's format. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from orchestra.values import Json


def models_page(names: Sequence[str], created_s: int) -> Json:
    """A list of all these models, on one page; `created_s` is seconds since 1970."""
    return {
        "data": [model_record(name, created_s) for name in names],
        "has_more": False,
        "first_id": names[0] if names else None,
        "last_id": names[-1] if names else None,
    }


def model_record(name: str, created_s: int) -> Json:
    """One model of the list; `created_s` is seconds since 1970."""
    created = datetime.fromtimestamp(created_s, UTC).isoformat().replace("+00:00", "Z")
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": created,
        "lifecycle": "active",
    }
