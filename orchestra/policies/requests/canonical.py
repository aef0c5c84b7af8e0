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


def written_of(scope: tuple[str, ...], request: AnyRequest, *, any_order: bool = False) -> bytes:
    """The bytes of a request within a scope; with `any_order`, the order of keys does not matter.

    Raises:
        TypeError: the request's extras or schemas are not JSON.
        ValueError: a text is not valid Unicode.
        OverflowError: a number is too large.
        RecursionError: a structure is too deep.
    """
    writer = _SORTED if any_order else _AS_IT_IS
    kind = type(request)
    values = _VALUES[kind](request)
    return writer.encode((*scope, kind.__name__, values, request.extras or None))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(
        f"{value!r:.200} is not JSON, so equal requests cannot be recognized; write JSON"
    )


def _names(kind: type[AnyRequest]) -> list[str]:
    return [field.name for field in attrs.fields(kind) if field.name != "extras"]


_VALUES = {kind: attrgetter(*_names(kind)) for kind in (ChatRequest, EmbedRequest, RerankRequest)}
_AS_IT_IS = msgspec.msgpack.Encoder(enc_hook=_plain)
_SORTED = msgspec.msgpack.Encoder(enc_hook=_plain, order="sorted")
