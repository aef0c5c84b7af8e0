"""Tags of a run: a few names with values, given by its caller, such as a team or a feature. Pure.

The bounds are those that OpenAI documents for `metadata`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias
from urllib.parse import unquote

from orchestra.surrogates import is_utf8

Tags: TypeAlias = Mapping[str, str]

TAGS_MAX = 16
NAME_CHARS_MAX = 64
VALUE_CHARS_MAX = 512
NO_TAGS: Tags = MappingProxyType({})


def fault_of(tags: object) -> str | None:
    """What is wrong with tags, and what to write instead; None if nothing is."""
    if not isinstance(tags, Mapping):
        return f'{tags!r:.80} is not a mapping; write {{"team": "search"}}'
    if len(tags) > TAGS_MAX:
        return f"there are {len(tags)} tags, and a run may have {TAGS_MAX}; leave some out"
    for name, value in tags.items():
        for what, text, least, most in (
            ("the name", name, 1, NAME_CHARS_MAX),
            (f"the value of {name!r:.80}", value, 0, VALUE_CHARS_MAX),
        ):
            if not isinstance(text, str):
                return f"{what} is {text!r:.80}, and not a text; write {str(text)!r:.80}"
            if not least <= len(text) <= most:
                return f"{what} has {len(text)} characters: {text!r:.80}; write {least} to {most}"
            if not is_utf8(text):
                return f"{what} contains half of a character (a lone surrogate); remove it"
    return None


def tags_of(texts: Iterable[str]) -> dict[str, str]:
    """The tags that several `name=value` say.

    Raises:
        ValueError: one of them is no tag, a name is there twice, or the tags exceed a bound.
    """
    return _together(map(_split, texts))


def tags_of_header(values: Iterable[str]) -> dict[str, str]:
    """The tags in headers of the form `team=search, ticket=A%2C1`: percent-encoded UTF-8.

    Raises:
        ValueError: as for `tags_of`; or a character is not ASCII, or not UTF-8 when decoded.
    """
    parts = (part.strip() for part in ",".join(values).split(","))
    return _together(map(_decoded, filter(None, parts)))


def _together(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the tag {name!r:.80} is given twice; write it once")
        found[name] = value
    if fault := fault_of(found):
        raise ValueError(fault)
    return found


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"{text!r:.80} is not a tag; write name=value, such as team=search")
    return name, value


def _decoded(part: str) -> tuple[str, str]:
    name, value = _split(part)
    if not part.isascii():
        raise ValueError(f"{part!r:.80} is not ASCII; percent-encode its UTF-8, as in caf%C3%A9")
    try:
        return unquote(name.rstrip(), errors="strict"), unquote(value.lstrip(), errors="strict")
    except UnicodeDecodeError as error:
        raise ValueError(f"{part!r:.80} is not percent-encoded UTF-8") from error
