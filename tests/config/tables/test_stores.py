"""`[stores]`: a database for all collections."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.config.reading import read
from orchestra.errors import BindingError
from orchestra.secret import Secret
from orchestra.stores.postgres.settings import PostgresSettings, open_postgres
from tests.config.mistakes import FILE, check_told

URL = '[stores]\nurl = "postgresql://h/d"\n'

WRONG = [
    ('[stores]\nurl = "postgres:h"', 2, "is not postgresql://HOST:PORT/DATABASE"),
    ('[stores]\nurl = "postgresql://h"', 2, "is not postgresql://HOST:PORT/DATABASE"),
    ('[stores]\nurl = "postgresql://ann@h/d"', 2, "a text (not shown) is not postgresql://"),
    ('[stores]\nurl = "postgresql://ann:sesame@h/d"', 2, "a text (not shown) is not postgresql:"),
    ('[stores]\nurl = "postgresql://h/d?password=sesame"', 2, "a text (not shown) is not"),
    ('[stores]\nurl = "postgresql://h:70000/d"', 2, "70000 is not a port"),
    ('[stores]\nurl = "postgresql://h:1,h:70000,i/d"', 2, "70000 is not a port"),
    ('[stores]\nurl = "postgresql:///d?host=/run&port=70000"', 2, "70000 is not a port"),
    ('[stores]\nurl = "postgresql://h/d?sslmode=require&sslmode=disable"', 2, "is not postgresql"),
    ('[stores]\nurl = "postgresql://::1/d"', 2, "is not postgresql://"),
    ('[stores]\nurl = "postgresql://h,,i/d"', 2, "is not postgresql://"),
    ('[stores]\nurl = "postgresql://h/d?sslmode=require&user=ann"', 2, "is not postgresql://"),
    ('[stores]\nurl = "postgresql://h/d?sslmode=always"', 2, "is not postgresql://"),
    (f'{URL}password = "sesame"', 3, "password_env = "),
    (f'{URL}password_env = "sesame"', 3, "in capitals"),
    (f'{URL}password_env = "P"\npassword_file = "p"', 4, "password_env is given, too"),
    (f"{URL}connections_max = 0", 3, "0 is not a whole number from 1 to 1000"),
    (f'{URL}ca_file = "p"', 3, "add ?sslmode=verify-full to the url, or leave it out"),
    ('[stores]\nuser = "ann"', 2, "it applies only to a database, and there is no url"),
]


@pytest.mark.parametrize(("text", "line", "says"), WRONG)
def test_a_mistake_is_told_with_its_line_and_what_to_write(text: str, line: int, says: str) -> None:
    check_told(text, line, says)


def test_what_is_right_is_kept() -> None:
    assert read("", FILE).database is None
    assert read('[stores]\ndata = "d"', FILE).database is None
    text = f'{URL}data = "d"\nuser = "ann"\npassword_file = "word"\ntimeout_s = 1\n'
    found = read(text, Path("/etc/orchestra.toml"))
    assert found.data == Path("/etc/d")
    assert found.database == PostgresSettings(
        url="postgresql://h/d", user="ann", password_file=Path("/etc/word"), timeout_s=1.0
    )


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        ("postgresql://h/d", {"host": "h", "dbname": "d", "sslmode": "prefer"}),
        ("postgres://h:1/d", {"host": "h", "port": "1", "dbname": "d", "sslmode": "prefer"}),
        (
            "postgresql://h/d?sslmode=verify-full",
            {"host": "h", "dbname": "d", "sslmode": "verify-full", "sslrootcert": "AUTHORITIES"},
        ),
        (
            "postgresql://[::1]:5433/d",
            {"host": "::1", "port": "5433", "dbname": "d", "sslmode": "prefer"},
        ),
        (
            "postgresql://a:1,[fe80::2],c/d?target_session_attrs=read-write&sslmode=require",
            {
                "host": "a,fe80::2,c",
                "port": "1,,",
                "dbname": "d",
                "sslmode": "require",
                "target_session_attrs": "read-write",
            },
        ),
        (
            "postgresql:///d?host=/run/pg&port=5433",
            {"host": "/run/pg", "port": "5433", "dbname": "d", "sslmode": "prefer"},
        ),
        ("postgresql:///d?host=/run/pg", {"host": "/run/pg", "dbname": "d", "sslmode": "prefer"}),
    ],
)
def test_a_postgres_is_where_its_url_says(
    url: str, parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authorities = tmp_path / "authorities.pem"
    authorities.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    if "sslrootcert" in parameters:
        parameters = {**parameters, "sslrootcert": str(authorities)}
    with open_postgres(PostgresSettings(url=url), {}) as stores:
        assert stores.place == url
        assert stores.address.parameters == parameters


def test_a_certificate_is_checked_by_the_file_that_is_named() -> None:
    settings = PostgresSettings(url="postgresql://h/d?sslmode=verify-ca", ca_file=Path("ca.pem"))
    with open_postgres(settings, {}) as stores:
        assert stores.address.parameters["sslrootcert"] == "ca.pem"


def test_a_password_is_in_the_environment_and_never_told() -> None:
    settings = PostgresSettings(url="postgresql://h/d", user_env="WHO", password_env="WORD")
    with pytest.raises(BindingError, match=r"no user in WHO; .* remove user_env from \[stores\]"):
        open_postgres(settings, {})
    with open_postgres(settings, {"WHO": "ann", "WORD": "sesame"}) as stores:
        assert stores.address.parameters["user"] == "ann"
        assert isinstance(stores.address.password, Secret)
        assert stores.address.password.reveal() == "sesame"
        assert "sesame" not in repr(stores.address)


def test_what_is_no_url_of_a_database_is_refused() -> None:
    with pytest.raises(BindingError, match="is not the url of a database; write postgresql://"):
        open_postgres(PostgresSettings(url="mysql://h/d"), {})
