"""JSON of providers that is not quite as it should be, read all the same.

Rules of the file: what is as it should be costs one typed decode. Only where that fails is it
read again: without a byte order mark before it, with a character whole that a server has cut in
two, the halves of which come one after the other, with null for a number that is none (`NaN`,
`Infinity`), and as the dialect mends its own shapes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from math import isfinite
from typing import TypeAlias, TypeVar

import msgspec

from orchestra.codecs.framing.frames import LARGE_BYTES, decoded, refuse_hollow

T = TypeVar("T")
JsonPath: TypeAlias = tuple[str, ...]
"""Where a value is in the payload; in a list, by its index if it has one, else by its place."""

NOT_AS_IT_SHOULD_BE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_HIGH = ("\ud800", "\udbff")
_LOW = ("\udc00", "\udfff")
_HALVES_MAX = 256
_NAMES_CHARS_MAX = 1_000  # of where a half is kept for
VALUES_MAX = 50_000
"""In a payload that is mended, and escapes: each costs two microseconds, in which nobody else has
a turn, and who sends one such payload sends more."""
_COSTLY = (b",", b"[", b"{", b"\\")


class JsonReader:
    """Reads the payloads of one answer, one after the other. A dialect mends in `_as_meant`."""

    __slots__ = ("_halves",)

    def __init__(self) -> None:
        self._halves: dict[JsonPath, str] = {}

    def read(self, decoder: msgspec.json.Decoder[T], payload: bytes, what: str) -> T:
        """What a payload holds.

        Raises:
            MalformedStreamError: it is something else, or hollow.
        """
        if len(payload) > LARGE_BYTES:
            refuse_hollow(payload, what)
        try:
            return decoder.decode(payload)
        except NOT_AS_IT_SHOULD_BE:
            return self.mended(decoder, payload, what)

    def mended(self, decoder: msgspec.json.Decoder[T], payload: bytes, what: str) -> T:
        """As `read`, of a payload that cannot be read as it is; a very large one is left so."""
        if sum(map(payload.count, _COSTLY)) > VALUES_MAX:
            return decoded(decoder, payload, what)
        with suppress(ValueError, RecursionError):  # it is no JSON, as the typed decoder will say
            payload = json.dumps(self._mend(json.loads(payload), ())).encode()
        return decoded(decoder, payload, what)

    def _as_meant(self, path: JsonPath, value: object) -> object:
        """The value as it should have been written; what is in it has not been mended yet."""
        del path  # of a value that is left as it is
        return value

    def _mend(self, value: object, path: JsonPath) -> object:
        if path:
            value = self._as_meant(path, value)
        if isinstance(value, dict):
            return {key: self._mend(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self._mend(each, (*path, at)) for at, each in _counted(value)]
        if isinstance(value, float):
            return value if isfinite(value) else None
        return self._joined(path, value) if isinstance(value, str) else value

    def _joined(self, path: JsonPath, text: str) -> str:
        """The text with the half of a character that the chunk before had kept, without its own."""
        if text and path in self._halves:
            half = self._halves.pop(path)
            text = half + text if _LOW[0] <= text[0] <= _LOW[1] else text
        room = len(self._halves) < _HALVES_MAX and sum(map(len, path)) < _NAMES_CHARS_MAX
        if text and room and _HIGH[0] <= text[-1] <= _HIGH[1]:
            text, self._halves[path] = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def read_whole(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """What an answer that is not streamed holds.

    Raises:
        MalformedStreamError: it is something else.
    """
    return JsonReader().read(decoder, body, what)


def _counted(values: list[object]) -> Iterator[tuple[str, object]]:
    """Each of a list with what tells it apart in the next chunk: its index, if it has one."""
    for at, each in enumerate(values):
        yield str(each.get("index", at) if isinstance(each, dict) else at), each
