"""What a deployment says of its server is what the server does."""

from __future__ import annotations

from typing import Any

import pytest

from orchestra.config.deployment.server_rules import DisconnectRule, ServerRules
from orchestra.runs.local import CANCEL, CONTINUE
from orchestra.runs.settings import RunsSettings
from orchestra.server.settings import Settings, arguments_of


def test_a_pipeline_has_its_own_policy_and_the_others_that_of_all() -> None:
    rules = ServerRules(
        disconnect=DisconnectRule(disconnect="linger", linger_s=7.0),
        pipelines={"long": DisconnectRule(disconnect="continue")},
        runs={"kept_s": 60.0},
        settings={"headers_max": 3},
    )
    settings = Settings(**arguments_of(rules))
    assert settings.linger_of("long") == CONTINUE
    assert settings.linger_of("other") == 7.0
    assert (settings.runs, settings.headers_max) == (RunsSettings(kept_s=60.0), 3)


def test_with_nothing_said_a_run_ends_with_its_client() -> None:
    assert Settings(**arguments_of(ServerRules())) == Settings()
    assert Settings().linger_of("any") == CANCEL


def test_stopping_takes_all_of_its_times_one_after_another() -> None:
    """Whoever is to kill a worker that hangs waits for the sum."""
    settings = Settings(shutdown_delay_s=1, drain_s=20, farewell_s=300, flush_s=4_000)
    assert settings.stop_s == 4_321


@pytest.mark.parametrize("name", ["shutdown_delay_s", "linger_s"])
@pytest.mark.parametrize("wrong", [-1, float("nan")])
def test_a_delay_is_not_negative(name: str, wrong: Any) -> None:
    """A server cannot begin to stop before it is asked to."""
    with pytest.raises(ValueError, match=rf"{name}={wrong}\): a delay cannot be negative"):
        Settings(**{name: wrong})


@pytest.mark.parametrize("wrong", [-1, float("nan")])
def test_nor_is_that_of_one_pipeline(wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"linger_s_of\['long'\]={wrong}\): a delay cannot be"):
        Settings(linger_s_of={"other": CONTINUE, "long": wrong})
