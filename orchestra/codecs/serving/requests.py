"""Reads clients' request bodies: the part that all served dialects have in common.

Rules of the file: every error begins with the field's path, as in `messages[0].role: ...`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol, TypeVar

import attrs
import msgspec

from orchestra.codecs.data_urls import data_image
from orchestra.codecs.raw_json import NOT_JSON, invalid_json
from orchestra.codecs.serving.allowlist import Allowlist
from orchestra.codecs.serving.words import words_at
from orchestra.errors import InvalidRequestError
from orchestra.eventclass import event
from orchestra.tags import NO_TAGS, Tags, fault_of
from orchestra.values import ChatRequest, ImagePart, ImageUrlPart, Json

T = TypeVar("T")
_ORCHESTRA = "orchestra"
EMPTY = "it is an empty list; send a text, or a list with a part"
"""Why a message with a list of no parts is refused: it would be an empty question, and paid for."""
_MISSING = re.compile(r"missing required field `(\w+)`")
_WHAT_CHARS_MAX = 200
"""The most characters of msgspec's message, which quotes an invalid value in full."""
_KIND_CHARS = 100
_OBJECTS = msgspec.json.Decoder(dict[str, object])


class Asked(Protocol):
    """A decoded body: its known fields; `orchestra` has the options of our own policies."""

    __struct_fields__: ClassVar[tuple[str, ...]]
    orchestra: Json | None


@event
class ServedChat:
    """A client's request: the model, the number of answers, and the form of the response.

    The `metadata` are the tags of the run. With `store`, the answers are stored on this server with
    them; neither is sent to a provider.
    """

    model: str
    request: ChatRequest
    stream: bool = False
    include_usage: bool = False
    choices: int = 1
    store: bool = False
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    messages: Sequence[Json] = ()
    """The unchanged messages, if they are to be stored."""


def asked_of(bodies: msgspec.json.Decoder[T], body: bytes) -> tuple[T, Json]:
    """The body, decoded to the expected type and to an object with all of its fields.

    Raises:
        InvalidRequestError: a field is wrong; the message begins with its path.
    """
    try:
        return bodies.decode(body), _OBJECTS.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(error, bodies.type) from error
    except NOT_JSON as error:
        raise InvalidRequestError(
            invalid_json(body, error), code="invalid_json", status=400
        ) from error


def extras_of(
    asked: Asked,
    everything: Json,
    allowed: Allowlist,
    meant_for: Callable[[str], str],
    elsewhere: Mapping[str, str] = NO_TAGS,
) -> dict[str, Json]:
    """The body's unknown fields as extras, each under the key that `meant_for` returns for it.

    No extra may replace what this server sends itself: `elsewhere` has the fields that providers
    get under other names than clients send them, and what to send instead. A known field in other
    letters is refused, too, since servers in Go read `MODEL` as `model`, and the last one counts.

    Raises:
        InvalidRequestError: `allowed` does not allow a field, or it is one of these.
    """
    extras: dict[str, Json] = {} if asked.orchestra is None else {_ORCHESTRA: asked.orchestra}
    for key, value in everything.items():
        if key not in asked.__struct_fields__ and value is not None:
            name = key.casefold()  # unlike `lower`, this also reads the long s as an s, as Go does
            if name in asked.__struct_fields__:
                raise refused(key, f"some providers read it as {name!r}; send {name!r}")
            if instead := elsewhere.get(name):
                told = f"there is no field `{key}`: {instead}"  # other APIs have it: not as a path
                raise InvalidRequestError(told, code="invalid_value", status=400)
            if why := allowed.why_not(key, value):
                raise refused(key, why)
            extras.setdefault(meant_for(key), {})[key] = value
    return extras


def tags_in(metadata: Tags | None) -> Tags:
    """The `metadata` of a request, which are the tags of its run.

    Raises:
        InvalidRequestError: they exceed a bound.
    """
    if metadata and (fault := fault_of(metadata)):
        raise refused("metadata", fault)
    return metadata or NO_TAGS


def image_part(
    url: str, detail: str | None, where: str, allowed: Allowlist
) -> ImagePart | ImageUrlPart:
    """The image in a data URL, or the address of an image.

    Raises:
        InvalidRequestError: the data URL cannot be read, or `allowed` does not allow the address.
    """
    try:
        image = data_image(url, detail)
    except ValueError as error:
        raise refused(where, str(error)) from error
    if image is None and (why := allowed.why_no_image(url)):
        raise refused(where, why)
    return image or ImageUrlPart(url, detail)


def check_callers(allowed: Sequence[str] | None, where: str) -> None:
    """Check that the model itself may call a tool.

    Raises:
        InvalidRequestError: only a program that the model writes may call it.
    """
    if allowed and "direct" not in allowed:
        why = "only the model itself can call tools here, not a program it writes; add 'direct'"
        raise refused(f"{where}.allowed_callers", why)


def refuse_fields(asked: object, unsupported: Mapping[str, str], where: str = "") -> None:
    """Refuse these fields of a body, or of its part at the path `where`; the values say why.

    Raises:
        InvalidRequestError: one of them is set.
    """
    for field, why in unsupported.items():
        if getattr(asked, field):
            raise refused(f"{where}.{field}" if where else field, why)


def refused(field: str, why: str, code: str = "invalid_value") -> InvalidRequestError:
    """The error for a field of the body that is not accepted."""
    return InvalidRequestError(f"{field}: {why}", code=code, status=400)


def unreadable(what: str, kind: str, where: str, known: str) -> InvalidRequestError:
    """The error for an item at `where` with a `type` that is not read, or without its field."""
    why = f"{what} {kind[:_KIND_CHARS]!r} cannot be read here, or lacks a field; {known} known"
    return refused(f"{where}.type", why)


def _invalid(error: msgspec.ValidationError, body: object) -> InvalidRequestError:
    before, marker, last = str(error).rpartition(" - at `$")
    what, at = (before, last) if marker else (last, "")
    what = what if len(what) <= _WHAT_CHARS_MAX else f"{what[:_WHAT_CHARS_MAX]}..."
    path = at.rstrip("`").removeprefix(".")
    if what.startswith("Invalid enum value"):
        what += f"; known here: {', '.join(words_at(body, path))}"
    if missing := _MISSING.search(what):
        path, what = f"{path}.{missing[1]}".removeprefix("."), "it is missing"
    return refused(path or "the body", what)
