"""OpenRouter's `reasoning_details`: the sealed reasoning of a model behind it, in one list.

OpenRouter wants the list back unchanged. A stream has it in pieces: the pieces of one text have the
same index and are consecutive, and the last one has the seal. Encrypted items are never in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec

from orchestra.codecs.raw_json import without_nulls
from orchestra.codecs.seals import OPENROUTER, UNSEALED, opened, sealed
from orchestra.values import Json, Part, ReasoningPart

_GROWS = {"reasoning.text": "text", "reasoning.summary": "summary"}
"""The field that is continued by further pieces, by kind."""
_PLAIN = {"type", "text", "summary", "format", "index", "id"}
_LISTS = msgspec.json.Decoder(list[dict[str, object]])
_ENCRYPTED = "reasoning.encrypted"


class ReasoningDetails:
    """The list of an answer so far."""

    __slots__ = ("_details", "_texts")

    def __init__(self) -> None:
        self._details: list[Json] = []
        self._texts: list[list[str]] = []  # for each item, the pieces of its growing field

    def take(self, pieces: Iterable[Mapping[str, object]]) -> None:
        """Add the pieces of a chunk."""
        for piece in pieces:
            grows = _GROWS.get(str(piece.get("type")), "")
            text = piece.get(grows) if grows else None
            if not self._continues(piece, grows):
                self._details.append(dict(piece))
                self._texts.append([])
            else:
                self._details[-1].update(without_nulls(piece))
            if isinstance(text, str):
                self._texts[-1].append(text)

    def seal(self) -> str:
        """The list as a signature; "" if it has no seal, since its text is enough then."""
        if not any(each[key] for each in self._details for key in each.keys() - _PLAIN):
            return ""
        for detail, texts in zip(self._details, self._texts, strict=True):
            if texts:
                detail[_GROWS[str(detail["type"])]] = "".join(texts)
        return sealed(OPENROUTER, msgspec.json.encode(self._details).decode())

    def _continues(self, piece: Mapping[str, object], grows: str) -> bool:
        if not (grows and self._details):
            return False
        last = self._details[-1]
        same = all(piece.get(key) == last.get(key) for key in ("type", "index"))
        return same and not (last.get("signature") and piece.get(grows))


def details_of(parts: Iterable[Part]) -> list[Json]:
    """The lists in the signatures of these parts, joined; other signatures are left out."""
    found: list[Json] = []
    for part in parts:
        origin, seal = opened(part.signature) if isinstance(part, ReasoningPart) else ("", "")
        if origin == OPENROUTER:
            with suppress(msgspec.DecodeError):
                found += _LISTS.decode(seal)
    return found


def kept_details(details: object) -> str:
    """A list sent back by a client, as a signature; "" if it is not a list of objects."""
    whole = isinstance(details, list) and all(isinstance(each, dict) for each in details)
    return sealed(OPENROUTER, msgspec.json.encode(details).decode()) if details and whole else ""


def with_ids(details: Sequence[Json], ids: Mapping[str, str]) -> list[Json]:
    """The list with replaced call ids, since the item with a call's seal has the call's id."""
    return [
        each | {"id": ids[id_]} if isinstance(id_ := each.get("id"), str) and id_ in ids else each
        for each in details
    ]


def with_unsealed(details: list[Json], call_id: str) -> list[Json]:
    """The list, with Google's substitute for the missing seal of a call."""
    if any(each.get("type") == _ENCRYPTED for each in details):
        return details
    unsealed: Json = {"type": _ENCRYPTED, "data": UNSEALED, "id": call_id}
    return [*details, unsealed | {"format": "google-gemini-v1", "index": len(details)}]
