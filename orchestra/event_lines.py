"""An event, and what a step gives, as a line of JSON: written so that it never fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from operator import attrgetter
from typing import get_args

import attrs
import msgspec

from orchestra.events import Event


def encode(event: Event, request_id: str = "") -> bytes:
    """The event as one line of JSON: `type`, `request_id` if given, fields. It never fails.

    `request_id` is that of the request that asked for the run.

    A chunk or result of a type that JSON and msgspec do not know is written as its `repr`,
    and half a character (a lone surrogate, where somebody cut one) as its escape. One that cannot
    be written even so is replaced by a word that says so: what a step gives must not end the
    tasks that write down everybody's runs.
    """
    names, values = _FIELDS[type(event)]
    of_request = {"request_id": request_id} if request_id else {}
    said = {"type": event.type, **of_request, **dict(zip(names, values(event), strict=True))}
    try:
        return _ENCODER.encode(said)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: ASYNC103, BLE001 - `repr` may raise anything, as a panic in Rust
        told = {name: msgspec.Raw(written(value)) for name, value in said.items()}
        return _ENCODER.encode(told)  # noqa: ASYNC104


def written(value: object) -> bytes:
    """Any value as one line of JSON, as `encode` writes those of an event. It never fails."""
    try:
        try:
            return _ENCODER.encode(value)
        except UnicodeEncodeError:
            return _escaped(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: ASYNC103, BLE001 - as above
        told = f"<a {type(value).__name__} that cannot be written as JSON>"
        return _ENCODER.encode(told)  # noqa: ASYNC104


def _escaped(value: object) -> bytes:
    """JSON of ASCII alone, which has a form for half a character; nan is none in it."""
    plain = msgspec.to_builtins(value, enc_hook=jsonable, str_keys=True)
    return json.dumps(plain, allow_nan=False).encode()


_NAMES = {cls: [field.name for field in attrs.fields(cls)] for cls in get_args(Event)}
_FIELDS = {cls: (names, attrgetter(*names)) for cls, names in _NAMES.items()}
"""Of each kind of event, what it has: its number and its time at least."""


def jsonable(value: object) -> object:
    """What JSON can say of a value that msgspec does not know: for `enc_hook`."""
    return dict(value) if isinstance(value, Mapping) else repr(value)


_ENCODER = msgspec.json.Encoder(enc_hook=jsonable)
