"""Which rows of a batch are done: a line of JSON for each row that has ended. Pure.

The theory: an append-only file survives every stop. A row is done if a line says that it finished
with its present inputs. All else in the file (a line cut by a crash, a failure, a row that has
changed since) does not count. So a batch that is started again goes on, and readers of the file
take the last line of each id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import attrs
import msgspec

from orchestra.accounts import Usage
from orchestra.event_lines import written
from orchestra.graph.calls.raised import name_and_message

FINISHED, FAILED = "finished", "failed"
DIGEST_CHARS = 32
"""Hexadecimal digits: two rows of a batch that differ have other digests."""


@attrs.frozen
class Row:
    """One row: its id, which no other row has, and the inputs of its run."""

    id: str
    inputs: Mapping[str, object]


@attrs.frozen(kw_only=True)
class Ended:
    """How the last attempt at a row has ended: with a result, or with an error."""

    run_id: str
    attempts: int
    duration_s: float
    """Of all attempts, and of the waits between them."""
    usage: Usage | None
    """Of all attempts, as far as models have told."""
    result: Any = None
    error: Exception | None = None
    cut: bool = False
    """Whether the result was made from a model's answer that was cut."""


class _Line(msgspec.Struct):
    id: str
    digest: str = ""
    status: str = ""


class Ledger:
    """Which rows are done, and with which inputs."""

    def __init__(self) -> None:
        self.unreadable = 0
        """Lines that are not ours, such as one cut by a crash."""
        self._digests: dict[str, str] = {}

    @classmethod
    def of(cls, lines: Iterable[bytes]) -> Ledger:
        """What these lines say; empty ones say nothing."""
        made = cls()
        for line in lines:
            if line.strip():
                made._read(line)
        return made

    def __len__(self) -> int:
        return len(self._digests)

    def has(self, row_id: str, digest: str) -> bool:
        """Whether a row has finished with these inputs."""
        return self._digests.get(row_id) == digest

    def _read(self, line: bytes) -> None:
        told = _decoded_line(line)
        if told is None:
            self.unreadable += 1
            return
        if told.status == FINISHED:
            self._digests[told.id] = told.digest
        else:
            self._digests.pop(told.id, None)


def _decoded_line(line: bytes) -> _Line | None:
    """What a line says; None where it is none of ours."""
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:  # half a character is right in JSON, and msgspec reads none
        return msgspec.convert(json.loads(line), _Line)
    except (ValueError, RecursionError):
        return None


def digest_of(pipeline: str, inputs: Mapping[str, object]) -> str:
    """The digest by which inputs of a pipeline are compared: the start of their SHA-256."""
    told = written([pipeline, sorted(inputs), [inputs[name] for name in sorted(inputs)]])
    return sha256(told).hexdigest()[:DIGEST_CHARS]


def line_of(row_id: str, digest: str, ended: Ended) -> bytes:
    """The line of an ended row, with its line feed; it never fails."""
    told: dict[str, object] = {"id": row_id, "digest": digest}
    if ended.error is None:
        told |= {"status": FINISHED, "result": msgspec.Raw(written(ended.result))}
        told |= {"cut": ended.cut}
    else:
        name, said = name_and_message(ended.error)
        told |= {"status": FAILED, "error": name, "message": said}
    told |= {"run_id": ended.run_id, "attempts": ended.attempts}
    told |= {"duration_s": round(ended.duration_s, 6), "usage": ended.usage}
    return written(told) + b"\n"


_DECODER = msgspec.json.Decoder(_Line)
