"""A table of the file, held against its spec: what is right of it, and complaints of the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from orchestra.config.complaints import Complaints, dotted, names_a_secret, nearest, shown
from orchestra.config.places import Path
from orchestra.config.spec import Kind, Spec

Table = Mapping[str, Any]

NO_SECRETS = "a secret does not stand in this file, and is not shown here"
KEY_ELSEWHERE = (
    'put it into the environment or into a file, and write key_env = "VARIABLE" or '
    'key_file = "PATH"; then take this one back at the provider, if the file was shared'
)


def check(table: Table, path: Path, spec: Spec, complaints: Complaints) -> dict[str, Any]:
    """The values of a table that are right, each as its kind gives it; tables as dicts."""
    right: dict[str, Any] = {}
    for key, value in table.items():
        at, known = (*path, key), spec.get(key)
        match known:
            case None:
                unknown(key, path, spec, complaints)
            case Kind():
                _check_value(value, at, known, complaints, right)
            case _ if isinstance(value, dict):
                right[key] = check(value, at, known, complaints)
            case _:
                fix = f"write it as a table, with {', '.join(known)}"
                complaints.add("wrong-type", at, f"{shown(value, key)} is not a table", fix)
    return right


def missing(key: str, kind: Kind, path: Path, complaints: Complaints) -> None:
    """Complain of a key that has to be there."""
    fix = f"add {key} = {kind.example}"
    complaints.add("missing-key", path, f"it has no {key}", fix)


def unknown(key: str, path: Path, known: Iterable[str], complaints: Complaints) -> None:
    """Complain of a key that nobody reads; of a secret, that it stands there."""
    at = (*path, key)
    if names_a_secret(key):
        complaints.add("secret-in-file", at, NO_SECRETS, KEY_ELSEWHERE)
    else:
        what = "key" if path else "table"
        complaints.add("unknown-key", at, f"there is no such {what}", nearest(key, known))


def _check_value(
    value: object, path: Path, kind: Kind, complaints: Complaints, right: dict[str, Any]
) -> None:
    key = str(path[-1])
    try:
        right[key] = msgspec.convert(value, kind.type)
    except msgspec.ValidationError:
        message = f"{shown(value, key)} is not {kind.words}"
        complaints.add("wrong-value", path, message, f"{dotted(path[-1:])} = {kind.example}")
