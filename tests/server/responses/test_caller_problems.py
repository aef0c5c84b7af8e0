"""Why a run was not started, as its client is told."""

from __future__ import annotations

from orchestra.errors import InputError
from orchestra.server.responses.caller_problems import not_started


def test_an_input_that_only_the_engine_refuses_is_told_with_its_field() -> None:
    """As when a program starts a run for a client by inputs that it has not read itself."""
    told = not_started(InputError("'ten' is no number", field="count"))
    assert told.status == 422
    assert [(each.field, each.pointer) for each in told.faults] == [("count", "#/inputs/count")]
