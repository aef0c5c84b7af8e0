"""Reads providers' JSON, and repairs it if it is slightly wrong.

Rules of the file: correct JSON costs one typed decode. Only if that fails is it read again with
repairs: without a byte order mark, with null for `NaN` and `Infinity`, with the two halves of a
character joined if a server has split them between two chunks, and with the repairs of the dialect.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import isfinite
from typing import TypeAlias, TypeVar

import msgspec

from orchestra.codecs.framing.frames import LARGE_BYTES, decoded, refuse_hollow
from orchestra.codecs.raw_json import NOT_JSON

T = TypeVar("T")
JsonPath: TypeAlias = tuple[str, ...]
"""The path of a value in the payload. A list's item is named by its `index`, else its position."""
Repair: TypeAlias = Callable[[JsonPath, object], object]
"""A dialect's repairs: returns the value to read at a path; what is inside it is repaired next."""

_HIGH = ("\ud800", "\udbff")
_LOW = ("\udc00", "\udfff")
_HALVES_MAX = 256
_NAMES_CHARS_MAX = 1_000  # of the paths of kept halves
VALUES_MAX = 50_000
"""The most values and escapes in a payload that is repaired: each costs two microseconds, which
block all other tasks, and a server that sends one such payload sends more."""
_COSTLY = (b",", b"[", b"{", b"\\")


class JsonReader:
    """Reads the payloads of one answer, in order."""

    __slots__ = ("_halves", "_repair")

    def __init__(self, repair: Repair | None = None) -> None:
        self._repair = repair
        self._halves: dict[JsonPath, str] = {}

    def read(self, decoder: msgspec.json.Decoder[T], payload: bytes, what: str) -> T:
        """The value of a payload.

        Raises:
            MalformedStreamError: the payload is not JSON of the decoder's type, or is hollow.
        """
        if len(payload) > LARGE_BYTES:
            refuse_hollow(payload, what)
        try:
            return decoder.decode(payload)
        except NOT_JSON:
            return self._mended(decoder, payload, what)

    def _mended(self, decoder: msgspec.json.Decoder[T], payload: bytes, what: str) -> T:
        """The value of a payload that needs repairs, if it is not too large for them."""
        payload = payload.removeprefix(BOM_UTF8)
        if sum(map(payload.count, _COSTLY)) > VALUES_MAX:
            return decoded(decoder, payload, what)
        with suppress(ValueError, RecursionError):  # not JSON, which the typed decoder reports
            payload = json.dumps(self._mend(json.loads(payload), ())).encode()
        return decoded(decoder, payload, what)

    def _mend(self, value: object, path: JsonPath) -> object:
        if path and self._repair is not None:
            value = self._repair(path, value)
        if isinstance(value, dict):
            return {key: self._mend(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self._mend(each, (*path, at)) for at, each in _counted(value)]
        if isinstance(value, float):
            return value if isfinite(value) else None
        return self._joined(path, value) if isinstance(value, str) else value

    def _joined(self, path: JsonPath, text: str) -> str:
        """The text, with the half character that ended it in the chunk before.

        If the text ends with half a character, this half is kept for the next chunk.
        """
        if text and path in self._halves:
            half = self._halves.pop(path)
            text = half + text if _LOW[0] <= text[0] <= _LOW[1] else text
        room = len(self._halves) < _HALVES_MAX and sum(map(len, path)) < _NAMES_CHARS_MAX
        if text and room and _HIGH[0] <= text[-1] <= _HIGH[1]:
            text, self._halves[path] = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def read_whole(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """The value of an unstreamed answer.

    Raises:
        MalformedStreamError: the body is not JSON of the decoder's type, or is hollow.
    """
    return JsonReader().read(decoder, body, what)


def _counted(values: list[object]) -> Iterator[tuple[str, object]]:
    """The items of a list with their names in a path, which are the same in the next chunk."""
    for at, each in enumerate(values):
        yield str(each.get("index", at) if isinstance(each, dict) else at), each
