"""`[state]`: where policies keep what they remember."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from orchestra.config import LocalBindings
from orchestra.config.reading import read
from orchestra.errors import BindingError, StateError
from orchestra.protocols import Change, Entry
from orchestra.stores.state.memory import MemoryState
from orchestra.stores.state.redis import RedisState
from orchestra.stores.state.settings import StateSettings, open_state
from tests.config.mistakes import FILE, check_told

WRONG = [
    ('[state]\nurl = "memroy:"', 2, '"memroy:" is not memory:, sqlite:FILE, redis://'),
    ('[state]\nurl = "redis://user@host"', 2, "a text (not shown) is not memory:"),
    ('[state]\nurl = "redis://:word@host:1/2"', 2, "a text (not shown) is not memory:"),
    ('[state]\nurl = "redis://host:70000"', 2, "70000 is not a port"),
    ('[state]\nurl = "redis://host/x"', 2, "is not memory:"),
    ('[state]\nurl = "sqlite:"', 2, "is not memory:"),
    ("[state]\nlimit_bytes = 5", 1, "state: it has no url"),
    ("[state]", 1, "state: it has no url"),
    ('[state]\nurl = "redis://h"\ntimout_s = 1', 3, "did you mean 'timeout_s'?"),
    ('[state]\nurl = "redis://h"\ntimeout_s = 0', 3, "0 is not a number of seconds, over 0"),
    ('[state]\nurl = "redis://h"\nlimit_bytes = 0', 3, "0 is not a whole number over 0"),
    ('[state]\nurl = "redis://h"\npassword = "sesame"', 3, "password_env = "),
    ('[state]\nurl = "redis://h"\npassword_env = "sesame"', 3, "in capitals"),
    ('[state]\nurl = "sqlite:a"\npassword_env = "P"', 3, '"sqlite:a" does not use it'),
    ('[state]\nurl = "memory:"\ntimeout_s = 1', 3, '"memory:" does not use it'),
    (
        '[state]\nurl = "redis://h"\npassword_env = "P"\npassword_file = "p"',
        4,
        "password_env is given, too",
    ),
    ('[state]\nurl = "redis://h"\nuser_env = "P"\nuser = "p"', 3, "user is given, too"),
    ('[state]\nurl = "redis://h"\nca_file = "p"', 3, "write rediss:// for TLS, or leave it out"),
    ('[state]\nurl = "redis+unix:///s"\nca_file = "p"', 3, "does not use it"),
    ('[state]\nurl = "redis+unix:s"', 2, "is not memory:"),
    ('[state]\nurl = "rediss://h:70000"', 2, "70000 is not a port"),
    ('[state]\nurl = "rediss://h"\ncertificate_key_file = "p"', 3, "add certificate_file = "),
    ('[stat]\nurl = "memory:"', 1, "did you mean 'state'?"),
]


@pytest.mark.parametrize(("text", "line", "says"), WRONG)
def test_a_mistake_is_told_with_its_line_and_what_to_write(text: str, line: int, says: str) -> None:
    check_told(text, line, says)


def test_what_is_right_is_kept() -> None:
    assert read("", FILE).state is None
    text = '[state]\nurl = "redis://h:1/2"\ntimeout_s = 1\nlimit_bytes = 9\npassword_env = "P"'
    assert read(text, FILE).state == StateSettings(
        url="redis://h:1/2", timeout_s=1.0, limit_bytes=9, password_env="P"
    )
    tls = 'ca_file = "ca.pem"\ncertificate_file = "/own.pem"\ncertificate_key_file = "own.key"'
    text = f'[state]\nurl = "rediss://h"\nuser = "ann"\npassword_file = "word"\n{tls}'
    assert read(text, Path("/etc/orchestra.toml")).state == StateSettings(
        url="rediss://h",
        user="ann",
        password_file=Path("/etc/word"),
        ca_file=Path("/etc/ca.pem"),
        certificate_file=Path("/own.pem"),
        certificate_key_file=Path("/etc/own.key"),
    )


def test_the_state_of_the_bindings_is_made_once_and_closed_with_them(tmp_path: Path) -> None:
    deployed = read('[state]\nurl = "sqlite:state.sqlite"\ntimeout_s = 5', FILE)
    with LocalBindings(tmp_path, deployed) as bindings:
        state = bindings.state
        assert bindings.state is state
        assert list(tmp_path.iterdir()) == []
        trio.run(state.change, ["a"], lambda *_: Change(None, {"a": Entry(b"1")}))
        assert (tmp_path / "state.sqlite").exists()
    with pytest.raises(StateError, match="the state is closed"):
        trio.run(state.recall, "a")


def test_without_a_table_it_is_in_memory(tmp_path: Path) -> None:
    with LocalBindings(tmp_path) as bindings:
        assert isinstance(bindings.state, MemoryState)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://h:1", "redis://h:1/0"),
        ("redis://h:1/2", "redis://h:1/2"),
        ("redis://h/3", "redis://h:6379/3"),
        ("rediss://h:1/2", "rediss://h:1/2"),
        ("redis+unix:///run/r.sock", "redis:///run/r.sock/0"),
        ("redis+unix:///run/r.sock?db=2", "redis:///run/r.sock/2"),
    ],
)
def test_a_redis_is_where_its_url_says(url: str, place: str) -> None:
    state = open_state(StateSettings(url=url), Path(), {})
    assert isinstance(state, RedisState)
    assert state._place == place


def test_what_is_no_state_is_told_with_what_one_is() -> None:
    """Also to who makes the settings without a file, where nothing is checked before."""
    with pytest.raises(
        BindingError, match="'redis://h:1/x' is not the url of a state; write redis://"
    ):
        open_state(StateSettings(url="redis://h:1/x"), Path(), {})


def test_a_password_is_in_the_environment_and_never_told() -> None:
    settings = StateSettings(url="redis://h", password_env="WORD")
    with pytest.raises(BindingError, match="there is no password in WORD; set that variable"):
        open_state(settings, Path(), {})
    state = open_state(settings, Path(), {"WORD": "sesame"})
    assert isinstance(state, RedisState)
    login = state._login()
    assert login is not None
    assert login.command() == ["AUTH", "sesame"]
    assert "sesame" not in f"{state!r} {login!r} {vars(state)}"
