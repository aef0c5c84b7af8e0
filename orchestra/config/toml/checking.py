"""Check a table of the file against its spec: keep its valid values, complain of the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Literal, get_args, get_origin

import msgspec

from orchestra.access.wanted import wrong_name
from orchestra.config.toml.complaints import (
    HIDDEN,
    Complaints,
    names_a_secret,
    nearest,
    shown,
)
from orchestra.config.toml.foreign_names import our_name
from orchestra.config.toml.places import Path
from orchestra.config.toml.spec import NO_LIMIT, OWNER_TABLES, REMOTE, Kind, Spec
from orchestra.messages import dotted
from orchestra.nearest import nearest_name

Table = Mapping[str, Any]

NO_SECRETS = "a secret must not stand in this file; it is not shown here"
KEY_ELSEWHERE = (
    'put it into the environment or into a file, and write key_env = "VARIABLE" or '
    'key_file = "PATH"; if the file was shared, also revoke this one at the provider'
)


_OF_A_CALL = {
    **{key: key for key in ("temperature", "top_p", "seed", "stop", "system", "reasoning_effort")},
    **dict.fromkeys(
        ("max_tokens", "max_completion_tokens", "output_tokens_max"), "output_tokens_max"
    ),
}
"""Keys that people write into a model's table, and the keyword of `generate` for each."""


def check(table: Table, path: Path, spec: Spec, complaints: Complaints) -> dict[str, Any]:
    """The valid values of a table, converted to the types of their kinds; tables as dicts."""
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
                fix = f"write it as a table{_as_table(at, known, value)}"
                complaints.not_a_table(at, value, fix)
    return right


def named(table: object, each: Spec) -> Spec:
    """The spec of a table whose keys are names that the user chose; `each` is the spec of one."""
    return dict.fromkeys(table if isinstance(table, dict) else (), each)


def without_none(right: Table) -> dict[str, Any]:
    """A table of bounds with None in place of "none"."""
    return {key: None if value == NO_LIMIT else value for key, value in right.items()}


def missing(key: str, kind: Kind, path: Path, complaints: Complaints) -> None:
    """Complain that a required key is missing."""
    fix = f"add {key} = {kind.example}"
    complaints.add("missing-key", path, f"it has no {key}", fix)


def unknown(key: str, path: Path, known: Iterable[str], complaints: Complaints) -> None:
    """Complain of an unknown key; of a secret, that it is in this file."""
    at, names = (*path, key), list(known)
    secretive = [name for name in names if names_a_secret(name)]  # perhaps meant by `key`
    place = _right_place(key, path) or our_name(key, names)
    if not place and names_a_secret(key) and not nearest_name(key, secretive):
        complaints.add("secret-in-file", at, NO_SECRETS, KEY_ELSEWHERE)
    else:
        what = "key" if path else "table"
        complaints.add("unknown-key", at, f"there is no such {what}", place or nearest(key, names))


def _as_table(path: Path, known: Spec, value: object) -> str:
    """The keys that a table at this path may have, with an example; `value` is there instead."""
    if not known:
        return f": [{dotted((*path, 'NAME'))}]"
    kinds = ((key, kind) for key, kind in known.items() if isinstance(kind, Kind))
    examples = [f"{key} = {kind.example}" for key, kind in islice(kinds, 1)]
    if isinstance(value, bool) and "enabled" in known:
        examples = [f"enabled = {shown(value)}"]
    written = "".join(f": {dotted(path[-1:])} = {{ {each} }}" for each in examples)
    return f", with {', '.join(known)}{written}"


def _right_place(key: str, path: Path) -> str:
    """The advice for a key that belongs in another place; "" if it belongs in none."""
    if path and key in ("retry", "retries", "max_retries", "num_retries", "attempts_max"):
        return "retries belong to a step: @step(policy=Policy(retry=Retry(attempts_max=3)))"
    if path[:1] == ("models",) and key in _OF_A_CALL:
        return f"it belongs to a call: generate(..., {_OF_A_CALL[key]}=...)"
    if path in (("limits",), ("budgets",)) and key in ("key", "keys"):
        return (
            "those of an API key are options of `orchestra keys create` and `orchestra keys change`"
        )
    if not path and key in REMOTE:
        return f"it belongs in the table of a model: models.NAME.{key}"
    return ""


def _check_value(
    value: object, path: Path, kind: Kind, complaints: Complaints, right: dict[str, Any]
) -> None:
    key = str(path[-1])
    try:
        right[key] = msgspec.convert(value, kind.type)
    except msgspec.ValidationError:
        text = shown(value, "" if get_origin(kind.type) is Literal else key)
        listed = _fits([value], kind) and HIDDEN not in text
        meant = f"[{text}]" if listed else _word_meant(value, kind) or kind.example
        fix = f"{dotted(path[-1:])} = {meant}"
        for index, item in _misfits(value, kind):
            message = f"{shown(item, key)} does not belong in {kind.words}"
            complaints.add("wrong-value", (*path, index), message, fix)
            break
        else:
            complaints.add("wrong-value", path, f"{text} is not {kind.words}", fix)


def _word_meant(value: object, kind: Kind) -> str:
    """The word of the kind that is nearest to the value, in quotes; "" if none is."""
    words = get_args(kind.type) if get_origin(kind.type) is Literal else ()
    near = nearest_name(value, words) if isinstance(value, str) else ""
    return near and f'"{near}"'


def _misfits(value: object, kind: Kind) -> Iterator[tuple[int, object]]:
    """The items that a list of this kind cannot have; none if only their number is wrong."""
    if isinstance(value, list) and kind.words.startswith("a list"):
        yield from ((n, item) for n, item in enumerate(value) if not _fits([item], kind))


def _fits(value: object, kind: Kind) -> bool:
    try:
        msgspec.convert(value, kind.type)
    except msgspec.ValidationError:
        return False
    return True


def check_owner_names(names: Iterable[str], at: Path, complaints: Complaints) -> None:
    """Complain of users and organisations that no key can name: their table has no effect."""
    one = OWNER_TABLES[str(at[-1])]
    for name in names:
        for why in wrong_name(one, name):
            fix = f"write it as `orchestra keys list` does, the {one} alone"
            complaints.add("wrong-value", (*at, name), f"no key can have this name: {why}", fix)
