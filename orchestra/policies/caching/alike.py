"""Whether two questions ask the same in different words, or only seem to. Pure.

The theory: everything in a request except the user's last message has to be equal; that is the
question's scope. Two questions of one scope are alike if their vectors are near *and* they have
the same numbers, names, signs, negations and word order, and differ only in words of manner
("please", "can"). The second condition is needed because a vector hardly changes with a negation,
a year, the roles of subject and object, or "on" and "off". The words that matter cannot be
listed; those that do not matter can.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs
import msgspec

from orchestra.policies.caching.cache import key_of, opened, sealed
from orchestra.values import ChatRequest, TextPart, Vector

QUESTION_CHARS_MAX = 200
"""A longer question is not compared: a single word changes its vector too little, and a comparison
takes quadratic time."""
TRIES = 3
"""How many of the nearest questions are tried, as their answers may have expired."""
INDEX_BYTES_MAX = 8 * 1024 * 1024

_WORD = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)*")
_CONTRACTED = re.compile(r"(?:n't|'(?:s|re|ve|ll|d|m))$")
"""No other word behind an apostrophe is an ending: `l'école` is not `l'église`."""
_NUMBER = re.compile(r"(?:(?<!\w)[-+\u2212])?\d+(?:[.,:/]\d+)*")
_SIGN = re.compile(r"[^\w\s.,;:!?'\"’()-]")
_BEGINS = re.compile(r"(?:^|[.!?:]\s)\W*$")
_TELLING = frozenset(
    re.findall(
        r"\w+",
        """no not never none nobody nothing neither nor cannot without except unless only before
        after until since more less most least over under above below from to all any some zero
        one two three four five six seven eight nine ten eleven twelve hundred thousand million
        first second third half double""",
    )
)
"""Small words that change the meaning of a question."""
_MANNER = frozenset(
    re.findall(
        r"\w+",
        """a an the your our do does can could is are please kindly just hi hello hey thanks thank
        tell me""",
    )
)
"""Words that do not change the meaning of a question."""


@attrs.frozen
class Known:
    """An answered question: the key of its answer, its text, and the text's vector."""

    key: str
    question: str
    vector: Vector


def question_of(request: ChatRequest) -> str | None:
    """The user's last message, if it may be compared by meaning; otherwise None.

    It has to be the last message of the request, contain only text, and be short.
    """
    last = request.messages[-1] if request.messages else None
    if last is None or last.role != "user":
        return None
    if not all(isinstance(part, TextPart) for part in last.parts):
        return None
    return last.text if last.text.strip() and len(last.text) <= QUESTION_CHARS_MAX else None


def scope_of(tenant: str, identity: str, embedder: str, request: ChatRequest) -> str | None:
    """The key of the scope: of all questions that may be compared with the request's.

    None if the request has no key. `embedder` identifies the source of the vectors: vectors of
    different embedders cannot be compared.
    """
    *before, last = request.messages
    asked = attrs.evolve(request, messages=(*before, attrs.evolve(last, content="")))
    return key_of(tenant, identity, asked, f"alike by {embedder}")


def nearest(
    known: Sequence[Known],
    question: str,
    vector: Vector,
    threshold: float,
    *,
    paraphrases: bool = False,
) -> list[tuple[float, Known]]:
    """The known questions that ask the same, with their cosines; the nearest first.

    Each cosine is at least `threshold`. There are at most `TRIES`.
    """
    import numpy as np  # heavy

    able = [each for each in known if len(each.vector) == len(vector)]
    if not able or not len(vector):
        return []
    matrix = np.frombuffer(b"".join(each.vector.data for each in able), "<f4")
    with np.errstate(all="ignore"):  # a NaN is below any threshold
        cosines = matrix.reshape(len(able), -1) @ np.frombuffer(vector.data, "<f4")
    found = [(round(float(c), 6), each) for c, each in zip(cosines, able, strict=True)]
    near = [
        (min(1.0, cosine), each)
        for cosine, each in found
        if cosine >= threshold
        and may_ask_the_same(each.question, question, paraphrases=paraphrases)
    ]
    return sorted(near, key=lambda each: -each[0])[:TRIES]


def may_ask_the_same(one: str, other: str, *, paraphrases: bool = False) -> bool:
    """Whether two texts agree in everything that their vectors do not show.

    With `paraphrases`, ordinary words may be missing in one text, or replaced by others.
    """
    if _marks(one) != _marks(other):
        return False
    words, others = _words(one), _words(other)
    shared = {*words} & {*others}
    if [w for w in words if w in shared] != [w for w in others if w in shared]:
        return False
    return paraphrases or ({*words} ^ {*others}) <= _MANNER | _TELLING


def _words(text: str) -> list[str]:
    """The words in lower case, without contracted endings, whose meaning `_marks` handles."""
    found = (word.lower().replace("’", "'") for word in _WORD.findall(text))
    return [_CONTRACTED.sub("", word) for word in found]


def with_known(known: Sequence[Known], newest: Known, entries_max: int) -> tuple[Known, ...]:
    """The entries, with `newest` as the last used; the least recently used are dropped."""
    rest = [each for each in known if each.key != newest.key]
    return (*rest, newest)[-entries_max:]


def encode_index(scope: str, known: Sequence[Known]) -> bytes | None:
    """The entries of a scope as bytes; None if there are more than `INDEX_BYTES_MAX`."""
    entries = [(each.key, each.question, each.vector.data) for each in known]
    return sealed(scope, entries, INDEX_BYTES_MAX)


def decode_index(scope: str, data: bytes | None) -> tuple[Known, ...]:
    """The entries in the bytes; empty if the bytes are damaged or of another scope."""
    found = None if data is None else opened(scope, data, _INDEX)
    return tuple(
        Known(key, question, Vector(vector))
        for key, question, vector in found or ()
        if len(vector) % 4 == 0
    )


def _marks(text: str) -> tuple[list[str], ...]:
    """The numbers, signs, names and meaningful words, each in order."""
    names, telling = [], []
    for match in _WORD.finditer(text):
        word, lower = match[0], match[0].lower().replace("’", "'")
        if lower.endswith("n't") or lower in _TELLING:
            telling.append("not" if lower.endswith("n't") or lower == "cannot" else lower)
        elif _names(word, begins=bool(_BEGINS.search(text[: match.start()]))):
            names.append(word)
    return _NUMBER.findall(text), _SIGN.findall(text), names, telling


def _names(word: str, *, begins: bool) -> bool:
    if word == "I" or word.startswith(("I'", "I’")):
        return False
    return word[1:] != word[1:].lower() or (word[0].isupper() and not begins)


_INDEX = msgspec.msgpack.Decoder(list[tuple[str, str, bytes]])
