"""Which rows of a batch are done: one line of JSON for each row that has ended. Pure.

The theory: an append-only file survives a stop at any moment. A row is done if its last line says
that it finished with its current inputs. Nothing else in the file counts: not a line truncated by
a crash, not a failure, not a result for other inputs. So a restarted batch continues where it
stopped, and readers of the file use the last line of each id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any

import attrs
import msgspec

from orchestra.accounts import Usage
from orchestra.annotations.pydantic_models import is_model, values_in
from orchestra.event_lines import jsonable, written
from orchestra.graph.calls.raised import name_and_message

FINISHED, FAILED = "finished", "failed"
DIGEST_CHARS = 32
"""Hexadecimal digits of a digest: enough that different inputs have different digests."""


@attrs.frozen
class Row:
    """One row: its unique id, and the inputs of its run."""

    id: str
    inputs: Mapping[str, object]


@attrs.frozen(kw_only=True)
class Ended:
    """How the last attempt at a row ended: with a result or an error."""

    run_id: str
    attempts: int
    duration_s: float
    """The duration of all attempts and the delays between them."""
    usage: Usage | None
    """The usage of all attempts, as far as models reported it."""
    usage_by_model: Mapping[str, Usage] = attrs.field(factory=dict)
    """The part of it of each model, by its name in orchestra.toml."""
    result: Any = None
    error: Exception | None = None
    cut: bool = False
    """Whether the result was made from a truncated model answer."""


class _Line(msgspec.Struct):
    id: str
    digest: str = ""
    status: str = ""


def finished_rows(lines: Iterable[bytes]) -> dict[str, str]:
    """The rows that are done by these lines: their ids, each with the digest of its inputs."""
    digests: dict[str, str] = {}
    for line in lines:
        decoded = _decoded_line(line)
        if decoded is None:  # such as an empty line, or one that a crash has truncated
            continue
        if decoded.status == FINISHED:
            digests[decoded.id] = decoded.digest
        else:
            digests.pop(decoded.id, None)
    return digests


def _decoded_line(line: bytes) -> _Line | None:
    """The decoded line; None if it is not valid."""
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:  # a lone surrogate escape is valid JSON, but msgspec does not decode it
        return msgspec.convert(json.loads(line), _Line)
    except (ValueError, RecursionError):
        return None


def digest_of(pipeline: str, inputs: Mapping[str, object]) -> str:
    """The digest by which the inputs of a pipeline are compared: the start of their SHA-256."""
    values = [inputs[name] for name in sorted(inputs)]
    with suppress(Exception):  # a user's hook may raise anything
        values = msgspec.to_builtins(values, enc_hook=_whole, str_keys=True)
    return sha256(written([pipeline, sorted(inputs), values])).hexdigest()[:DIGEST_CHARS]


def _whole(value: Any) -> object:
    """As `jsonable`, but with what a Pydantic model never writes: its secrets, excluded fields."""
    if is_model(type(value)):
        return values_in(value)
    secret = getattr(value, "get_secret_value", None)
    return secret() if callable(secret) else jsonable(value)


def line_of(row_id: str, digest: str, ended: Ended) -> bytes:
    """The line of an ended row, including its line feed; never fails."""
    line: dict[str, object] = {"id": row_id, "digest": digest}
    if ended.error is None:
        line |= {"status": FINISHED, "result": msgspec.Raw(written(ended.result))}
        line |= {"cut": ended.cut}
    else:
        name, message = name_and_message(ended.error)
        line |= {"status": FAILED, "error": name, "message": message}
    line |= {"run_id": ended.run_id, "attempts": ended.attempts}
    line |= {"duration_s": round(ended.duration_s, 6), "usage": ended.usage}
    line |= {"usage_by_model": ended.usage_by_model}
    return written(line) + b"\n"


_DECODER = msgspec.json.Decoder(_Line)
