"""`[server]`: who may ask, from which pages, and what becomes of runs."""

from __future__ import annotations

import json

import attrs
import pytest

from orchestra.config import LocalBindings
from orchestra.config.deployment.server_rules import USUAL_RULES, DisconnectRule
from orchestra.config.reading import read
from orchestra.config.toml import spec
from orchestra.runs.settings import RunsSettings
from orchestra.server.settings import Settings, arguments_of
from tests.config.mistakes import FILE, check_told

WRONG = [
    ('[server]\nkeys = "always"', 2, 'is not one of "auto", "required", "none"'),
    ("[server]\ndrain = 5", 2, "did you mean 'drain_s'?"),
    ("[server]\nbody_limit_bytes = 0", 2, "0 is not a whole number over 0"),
    ("[server]\nbody_limit_bytes = -1", 2, "fix: body_limit_bytes = 4_194_304"),
    ("[server]\nshutdown_delay_s = -1", 2, "-1 is not a number of seconds, from 0 up"),
    ('[server.cors]\norigins = ["https://a.example/path"]', 2, "a list of origins"),
    ('[server.cors]\norigins = "https://a.example"', 2, 'origins = ["https://a.example"]'),
    ('[server.cors]\norigins = "*"', 2, 'origins = ["*"]'),
    ('[server.cors]\norigins = "a.example"', 2, 'origins = ["https://app.example"]'),
    ('[server]\nkey = "required"', 2, "did you mean 'keys'?"),
    ('[server]\ntoken = "required"', 2, "a secret must not stand in this file"),
    ('[server]\nkeys = "yes"', 2, '"yes" is not one of "auto", "required", "none"'),
    ('[server]\nkeys = "sk-12345678901234567"', 2, "a text (not shown) is not one of"),
    ('[server]\ndisconnect = "linger on"', 2, 'one of "cancel", "continue", "linger"'),
    ('[server.pipelines.answer]\ndisconect = "cancel"', 2, "did you mean 'disconnect'?"),
    ("[server]\npipelines = 3", 2, "3 is not a table"),
    ("[server.runs]\nkept = 3", 2, "did you mean 'kept_s'?"),
    ("[server]\nport = 80", 2, "fix: orchestra serve --port ..."),
    ("server = 3", 1, "3 is not a table"),
]


@pytest.mark.parametrize(("text", "line", "says"), WRONG)
def test_a_mistake_is_told_with_its_line_and_what_to_write(text: str, line: int, says: str) -> None:
    check_told(text, line, says)


def test_what_is_so_by_default_may_be_said() -> None:
    usual = {
        name: getattr(Settings(), name)
        for name in spec.SERVER_SETTINGS
        if getattr(Settings(), name) is not None
    }
    text = "[server]\n" + "\n".join(
        f"{name} = {json.dumps(value)}" for name, value in usual.items()
    )
    assert read(text, FILE).server.settings == usual


def test_what_is_right_is_kept() -> None:
    rules = read(
        """
        [server]
        keys = "required"
        disconnect = "linger"
        linger_s = 5
        drain_s = 7
        runs_max = 9
        deadline_s = 60
        pass_fields = ["audio", "web_search_options"]
        image_schemes = ["https", "gs"]
        store_answers = false
        [server.cors]
        origins = ["https://a.example"]
        [server.pipelines.long]
        disconnect = "continue"
        [server.runs]
        kept_s = 60
        """,
        FILE,
    ).server
    assert rules.keys == "required"
    assert rules.cors_origins == {"https://a.example"}
    assert rules.disconnect == DisconnectRule(disconnect="linger", linger_s=5)
    assert rules.pipelines == {"long": DisconnectRule(disconnect="continue", linger_s=5)}
    settings = Settings(**arguments_of(rules))
    assert (settings.drain_s, settings.runs.kept_s) == (7, 60)
    assert (settings.runs_max, settings.deadline_s) == (9, 60)
    assert settings.allowed.fields == {"audio", "web_search_options"}
    assert settings.allowed.image_schemes == {"https", "gs"}
    assert not settings.store_answers


def test_without_the_table_all_is_as_usual() -> None:
    assert read("", FILE).server == USUAL_RULES
    assert Settings(**arguments_of(USUAL_RULES)) == Settings()
    with LocalBindings() as bindings:
        assert bindings.rules == USUAL_RULES


def test_what_may_be_written_is_what_the_server_has() -> None:
    assert set(spec.SERVER_SETTINGS) <= {field.name for field in attrs.fields(Settings)}
    runs = spec.SERVER["runs"]
    assert isinstance(runs, dict)
    assert set(runs) <= {field.name for field in attrs.fields(RunsSettings)}
