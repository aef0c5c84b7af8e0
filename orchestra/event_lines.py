"""Events, and any value that a step gives, as lines of JSON; the encoding never fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, get_args

import attrs
import msgspec

from orchestra.events import UNWRITTEN, Event


def encode(event: Event, request_id: str = "") -> bytes:
    """Encode the event as one line of JSON: `type`, `request_id` if given, fields. It never fails.

    `request_id` is the id of the request that started the run.

    A Pydantic model is written as its `model_dump`, any other chunk or result of a type that
    msgspec cannot encode as its `repr`, and a lone surrogate (half a character, left where a text
    was cut) as its escape. A value that cannot be written even so is replaced by a text that says
    so: a value of one step must not end the tasks that write the events of all runs.
    """
    names, values = _FIELDS[type(event)]
    of_request = {"request_id": request_id} if request_id else {}
    fields = {"type": event.type, **of_request, **dict(zip(names, values(event), strict=True))}
    try:
        return _ENCODER.encode(fields)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: ASYNC103, BLE001 - `repr` may raise anything, also a Rust panic
        raw = {name: msgspec.Raw(written(value)) for name, value in fields.items()}
        return _ENCODER.encode(raw)  # noqa: ASYNC104


def written(value: object) -> bytes:
    """Encode any value as one line of JSON, by the rules of `encode`. It never fails."""
    try:
        try:
            return _ENCODER.encode(value)
        except UnicodeEncodeError:
            return _escaped(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: ASYNC103, BLE001 - as above
        notice = f"<a {type(value).__name__} that cannot be written as JSON>"
        return _ENCODER.encode(notice)  # noqa: ASYNC104


def read_back(line: bytes) -> Any:
    """The value of a line that `written` has encoded."""
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:  # a lone surrogate is valid JSON, but msgspec rejects it
        return json.loads(line)


def _escaped(value: object) -> bytes:
    """Encode with an escape for each lone surrogate. NaN raises ValueError."""
    plain = msgspec.to_builtins(value, enc_hook=jsonable, str_keys=True)
    text = json.dumps(plain, allow_nan=False, ensure_ascii=False)
    return text.encode(errors="backslashreplace")


_NAMES = {
    cls: [field.name for field in attrs.fields(cls) if field.name not in UNWRITTEN]
    for cls in get_args(Event)
}
_FIELDS = {cls: (names, attrgetter(*names)) for cls, names in _NAMES.items()}
"""The fields of each event class, by name, with a function that gets their values."""


def jsonable(value: object) -> object:
    """Return something that msgspec can encode for a value that it cannot: an `enc_hook`."""
    if isinstance(value, Mapping):
        return dict(value)
    dumped = dump_of(value)
    return repr(value) if dumped is None else dumped


def dump_of(value: object) -> object:
    """A Pydantic model as its own `model_dump` writes it as JSON; None for anything else.

    Fields have the aliases by which they are read, unless the model is configured otherwise.
    """
    dump = None if isinstance(value, type) else getattr(value, "model_dump", None)
    return dump(mode="json", by_alias=by_alias(value)) if callable(dump) else None


def by_alias(model: Any) -> bool:
    """Whether a Pydantic model, or a class of them, is written with the aliases of its fields."""
    return bool(getattr(model, "model_config", {}).get("serialize_by_alias", True))


_ENCODER = msgspec.json.Encoder(enc_hook=jsonable)
