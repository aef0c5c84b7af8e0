"""OpenRouter's `reasoning_details`: what a model behind it thought, sealed, in one list.

It wants the list back as it was. In a stream it comes in pieces: those of one text, with one index,
follow each other, and the seal comes with the last of them. What is encrypted is never in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec

from orchestra.codecs.seals import OPENROUTER, UNSEALED, opened, sealed
from orchestra.values import Json, Part, ReasoningPart

_GROWS = {"reasoning.text": "text", "reasoning.summary": "summary"}
"""What a piece of each kind goes on with."""
_PLAIN = {"type", "text", "summary", "format", "index", "id"}
_LISTS = msgspec.json.Decoder(list[dict[str, object]])
_ENCRYPTED = "reasoning.encrypted"


class ReasoningDetails:
    """The list of an answer, so far."""

    __slots__ = ("_details", "_texts")

    def __init__(self) -> None:
        self._details: list[Json] = []
        self._texts: list[list[str]] = []  # of each, what has grown

    def take(self, pieces: Iterable[Mapping[str, object]]) -> None:
        """Add what a chunk has of it."""
        for piece in pieces:
            grows = _GROWS.get(str(piece.get("type")), "")
            text = piece.get(grows) if grows else None
            if not self._goes_on(piece, grows):
                self._details.append(dict(piece))
                self._texts.append([])
            else:
                said = {key: value for key, value in piece.items() if value is not None}
                self._details[-1].update(said)
            if isinstance(text, str):
                self._texts[-1].append(text)

    def seal(self) -> str:
        """The list as a signature; "" where it seals nothing: then the text of it will do."""
        if not any(each[key] for each in self._details for key in each.keys() - _PLAIN):
            return ""
        for detail, texts in zip(self._details, self._texts, strict=True):
            if texts:
                detail[_GROWS[str(detail["type"])]] = "".join(texts)
        return sealed(OPENROUTER, msgspec.json.encode(self._details).decode())

    def _goes_on(self, piece: Mapping[str, object], grows: str) -> bool:
        if not (grows and self._details):
            return False
        last = self._details[-1]
        same = all(piece.get(key) == last.get(key) for key in ("type", "index"))
        return same and not (last.get("signature") and piece.get(grows))


def details_of(parts: Iterable[Part]) -> list[Json]:
    """The lists that are kept in these parts, as one; what is no list is left out."""
    found: list[Json] = []
    for part in parts:
        origin, seal = opened(part.signature) if isinstance(part, ReasoningPart) else ("", "")
        if origin == OPENROUTER:
            with suppress(msgspec.DecodeError):
                found += _LISTS.decode(seal)
    return found


def kept_details(details: object) -> str:
    """A list that a client sends back, as a signature; "" where it is none."""
    whole = isinstance(details, list) and all(isinstance(each, dict) for each in details)
    return sealed(OPENROUTER, msgspec.json.encode(details).decode()) if details and whole else ""


def with_ids(details: Sequence[Json], ids: Mapping[str, str]) -> list[Json]:
    """The list with other ids for calls: the seal of a call stands under the call's id."""
    return [
        each | {"id": ids[id_]} if isinstance(id_ := each.get("id"), str) and id_ in ids else each
        for each in details
    ]


def with_unsealed(details: list[Json], call_id: str) -> list[Json]:
    """The list, with what Google wants for a seal where that of a call is missing."""
    if any(each.get("type") == _ENCRYPTED for each in details):
        return details
    unsealed: Json = {"type": _ENCRYPTED, "data": UNSEALED, "id": call_id}
    return [*details, unsealed | {"format": "google-gemini-v1", "index": len(details)}]
