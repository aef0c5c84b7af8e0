"""Requests as bytes: equal bytes mean equal requests. Pure.

Rules of the file: every field of a request is included, also one that is added later; a request
without extras, as nearly all are, costs no more than its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

import attrs
import msgspec

from orchestra.rankings import AnyRequest, RerankRequest
from orchestra.values import ChatRequest, EmbedRequest


def written_of(
    scope: tuple[str, ...], request: AnyRequest, *, any_order: bool = False
) -> bytes | None:
    """The bytes of a request within a scope; with `any_order`, the order of keys does not matter.

    None if its extras or schemas are not JSON or are nested too deeply, a number is too large, or a
    text is not valid Unicode.
    """
    writer = _SORTED if any_order else _AS_IT_IS
    kind = type(request)
    values = _VALUES[kind](request)
    try:
        return writer.encode((*scope, kind.__name__, values, request.extras or None))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON; write JSON")


def _names(kind: type[AnyRequest]) -> list[str]:
    return [field.name for field in attrs.fields(kind) if field.name != "extras"]


_VALUES = {kind: attrgetter(*_names(kind)) for kind in (ChatRequest, EmbedRequest, RerankRequest)}
_AS_IT_IS = msgspec.msgpack.Encoder(enc_hook=_plain)
_SORTED = msgspec.msgpack.Encoder(enc_hook=_plain, order="sorted")
