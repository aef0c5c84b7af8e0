"""What is the same for the requests of all dialects that are served: how a body is read.

Rules of the file: whatever is wrong is told with the field's path in front, as in
`messages[0].role: ...`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import attrs
import msgspec

from orchestra.codecs.data_urls import data_image
from orchestra.codecs.invalid_json import invalid_json
from orchestra.codecs.serving.passed import Passed
from orchestra.codecs.serving.words import words_at
from orchestra.errors import InvalidRequestError
from orchestra.values import ChatRequest, ImagePart, ImageUrlPart, Json

T = TypeVar("T")
_ORCHESTRA = "orchestra"
_MISSING = re.compile(r"missing required field `(\w+)`")
_OBJECTS = msgspec.json.Decoder(dict[str, object])


@attrs.frozen
class ServedChat:
    """What a client asks for: of which model, how many answers, and how they are to come.

    With `store` they are to be kept here, with this `metadata`; no provider hears of either.
    """

    model: str
    request: ChatRequest
    stream: bool = False
    include_usage: bool = False
    choices: int = 1
    store: bool = False
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    messages: Sequence[Json] = ()
    """As they came, where they are to be kept."""


def asked_of(bodies: msgspec.json.Decoder[T], body: bytes) -> tuple[T, Json]:
    """What a body says in the form that is wanted, and all that it says.

    Raises:
        InvalidRequestError: something in it is wrong; the message begins with its path.
    """
    try:
        return bodies.decode(body), _OBJECTS.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(error, bodies.type) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(
            invalid_json(body, error), code="invalid_json", status=400
        ) from error


def extras_of(
    everything: Json,
    known: tuple[str, ...],
    ours: Json | None,
    passed: Passed,
    meant_for: Callable[[str], str],
) -> dict[str, Json]:
    """What a body says beside what is known, each under the name of those whom it is meant for.

    `ours` is what it says to our own policies, and `meant_for` tells whose a field is.

    Raises:
        InvalidRequestError: `passed` does not let it pass.
    """
    extras: dict[str, Json] = {} if ours is None else {_ORCHESTRA: ours}
    for key, value in everything.items():
        if key not in known and value is not None:
            if why := passed.why_not(key, value):
                raise refused(key, why)
            extras.setdefault(meant_for(key), {})[key] = value
    return extras


def image_part(
    url: str, detail: str | None, where: str, passed: Passed
) -> ImagePart | ImageUrlPart:
    """An image that is sent along, or is at an address.

    Raises:
        InvalidRequestError: it is none, or `passed` does not let it pass.
    """
    try:
        written = data_image(url, detail)
    except ValueError as error:
        raise refused(where, str(error)) from error
    if written is None and (why := passed.why_no_image(url)):
        raise refused(where, why)
    return written or ImageUrlPart(url, detail)


def check_callers(allowed: Sequence[str] | None, where: str) -> None:
    """Nothing, if a model itself may call a tool.

    Raises:
        InvalidRequestError: only a program that it writes may.
    """
    if allowed and "direct" not in allowed:
        why = "models call tools here, and no programs of theirs do; add 'direct'"
        raise refused(f"{where}.allowed_callers", why)


def refused(field: str, why: str) -> InvalidRequestError:
    """Why a field of the body cannot be taken."""
    return InvalidRequestError(f"{field}: {why}", code="invalid_value", status=400)


def _invalid(error: msgspec.ValidationError, body: object) -> InvalidRequestError:
    what, _, at = str(error).partition(" - at `$")
    path = at.rstrip("`").removeprefix(".")
    if what.startswith("Invalid enum value"):
        what += f"; known here: {', '.join(words_at(body, path))}"
    if missing := _MISSING.search(what):
        path, what = f"{path}.{missing[1]}".removeprefix("."), "it is missing"
    return refused(path or "the body", what)
