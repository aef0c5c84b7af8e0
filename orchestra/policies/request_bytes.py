"""Requests as bytes: two of them are equal where nothing that is asked differs. Pure.

Rules of the file: every field of a request is in it, those too that somebody adds; and a request
without extras, as nearly all are, costs no more than its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

import attrs
import msgspec

from orchestra.values import ChatRequest, EmbedRequest


def written_of(
    scope: tuple[str, ...], request: ChatRequest | EmbedRequest, *, any_order: bool = False
) -> bytes:
    """Of a request within some scope; with `any_order`, keys may come in any.

    Raises:
        TypeError: its extras or schemas are no JSON; ValueError, OverflowError or RecursionError
            where a text is no Unicode, a number too large, a structure too deep.
    """
    writer = _SORTED if any_order else _AS_IT_IS
    values = _of_chat if isinstance(request, ChatRequest) else _of_texts
    return writer.encode((*scope, type(request).__name__, values(request), request.extras or None))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{value!r:.200} is no JSON, and cannot be told from others; write JSON")


def _names(kind: type[ChatRequest | EmbedRequest]) -> list[str]:
    return [field.name for field in attrs.fields(kind) if field.name != "extras"]


_of_chat = attrgetter(*_names(ChatRequest))
_of_texts = attrgetter(*_names(EmbedRequest))
_AS_IT_IS = msgspec.msgpack.Encoder(enc_hook=_plain)
_SORTED = msgspec.msgpack.Encoder(enc_hook=_plain, order="sorted")
