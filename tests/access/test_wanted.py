"""What may be wanted of a key: all that is wrong is told, and nothing is half made."""

from __future__ import annotations

import pytest

from orchestra.access.wanted import KeyChanges, check_changes
from orchestra.errors import StoreError


def test_a_limit_that_no_key_has_is_told_beside_what_else_is_wrong() -> None:
    wanted = KeyChanges(limits={"speed": 1, "requests_per_minute": -1}, lasts_s=0.5)
    with pytest.raises(StoreError) as refused:
        check_changes(wanted)
    unknown, bounds, lasting = str(refused.value).splitlines()
    assert unknown.startswith("a key has no limit 'speed'; its limits are ")
    assert bounds.startswith("requests_per_minute: -1 is out of bounds; give ")
    assert "lasts_s" in lasting
