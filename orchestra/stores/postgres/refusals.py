"""Explains the errors of a database, and advises what to do.

The database's own message is quoted as it is, in the language of the database. The advice is chosen
by the error code, or by English words in the message if there is no advice for the code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import psycopg

from orchestra.errors import StoreError
from orchestra.secret import Secret

_BY_CODE: Mapping[str, str] = {
    "0A000": "install pgvector on the server (on Debian: apt-get install postgresql-NN-pgvector)",
    "58P01": "install pgvector on the server (on Debian: apt-get install postgresql-NN-pgvector)",
    "42501": (
        "let an administrator run, in that database: CREATE EXTENSION IF NOT EXISTS vector; "
        "CREATE SCHEMA IF NOT EXISTS orchestra AUTHORIZATION the_user"
    ),
    "25006": "write the address of the server that takes writes, not that of a replica",
    "42P01": "the schema orchestra was removed while it was in use; try again, or restore it",
    "53100": "make room on the server's disk",
    "53200": "give the server more memory",
    "54000": "an id, a source or the name of a collection may have at most 2600 bytes",
    "57014": "the server was too slow: check the server, or raise timeout_s",
}
_BY_WORDS: Mapping[str, str] = {
    r"password authentication failed|no password supplied|role .* does not exist": (
        "set user, and password_env or password_file, in [stores]"
    ),
    r"no pg_hba\.conf entry": "let this host in, in pg_hba.conf on the server",
    r"database .* does not exist": "create it (createdb), or write the name of an existing one",
    r"too many clients|connection slots": (
        "raise max_connections on the server, or lower connections_max in [stores]"
    ),
    r"surrogates not allowed": "remove the half of a character (the lone surrogate)",
    r"certificate|SSL|TLS": "check sslmode in the url and ca_file in [stores]",
    r"Connection refused|could not translate|No such file|no address|Name or service": (
        "check whether Postgres runs and listens there, or change the url"
    ),
}
_AROUND = re.compile(
    r"^connection (?:failed|is bad): (?:connection to server .*? failed: )?(?:FATAL: +)?"
    r"| Is the server running .*\?$"
)
"""The parts around the reason in libpq's messages, which repeat the address."""
_LOOK_AFTER = "check Postgres, or change the url"


def explained(place: str, error: Exception, password: Secret | None = None) -> StoreError:
    """The StoreError for an error of the database at `place`: its own message, and what to do.

    The `password`, if given, is removed from the message.
    """
    code, message = None, str(error)
    if isinstance(error, psycopg.Error):
        code, message = error.sqlstate, error.diag.message_primary or message
    reason = _AROUND.sub("", " ".join(message.split())) or type(error).__name__
    if password is not None:
        reason = password.redact(reason)
    advice = _BY_CODE.get(code or "") or next(
        (then for words, then in _BY_WORDS.items() if re.search(words, reason)), _LOOK_AFTER
    )
    return StoreError(f"{place}: {reason}; {advice}")
