"""Keyword search as all stores define it: the words of a text, and how passages are ranked. Pure.

A word is a run of letters and digits, without regard to case and accents: `Tür` and `TUR` are one.
Vowel points of Hebrew and Arabic are left out as accents are, and so is what is not seen, such as a
soft hyphen, which PDFs and web pages have inside words.
Words joined by a hyphen, dot, underscore and the like (`first_chunk_s`, `gpt-4o`, `v1.2`) also
count as one word together, so that an identifier is found as a whole. Chinese, Japanese, Korean,
Thai and similar text, which is often written without spaces, counts by pairs of characters. There
is no stemming, and there are no stop words: BM25 gives a common word little weight.

Rules of the file:

1. All stores rank with `ranked`, so that they give the same passages with the same scores.
2. A query has at most `WORDS_MAX` words, and a search counts at most `HITS_MAX` of their hits: a
   client chooses the query, and the work must be bounded.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise

import attrs

from orchestra.normal_forms import pieces
from orchestra.stores import rules
from orchestra.values import Metadata

QUERY_CHARS = 10_000
"""Only so many characters of a query are read."""
WORDS_MAX = 128
"""Only so many different words of a query are searched: the first ones. In text without spaces they
are pairs: a question in Thai has some five to a word.
"""
HITS_MAX = 20_000
"""The most hits of words, in all, that one search counts."""
WORD_CHARS = 64
"""Words that begin with the same so many characters are the same word."""
REPETITION, LENGTH = 1.2, 0.75
"""The usual `k1` and `b` of BM25: what a repeated word adds, and how much a long text loses."""

_MARKS = "".join(
    mark for mark in map(chr, range(0x0300, 0x2000)) if unicodedata.category(mark)[0] == "M"
)
"""The combining marks that are parts of words, such as the vowels of Hindi and Thai."""
_IGNORED = re.compile(
    "[\u0300-\u036f"  # accents
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # points of Hebrew
    "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"
    "\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]+"
)
"""Accents, vowel points of Hebrew and Arabic, and what is not seen, such as soft hyphens."""
_PLAIN = str.maketrans(
    {
        "ł": "l",
        "ø": "o",
        "đ": "d",
        "ð": "d",
        "ħ": "h",
        "\u0131": "i",
        "æ": "ae",
        "œ": "oe",
        "þ": "th",
    }
)
"""Letters with a stroke and the like, which Unicode does not divide into letter and accent."""
_WORD = rf"[^\W_]+(?:[{_MARKS}]+[^\W_]*)*"
_JOINED = re.compile(rf"{_WORD}(?:[-_.:/@+\u00b7\u2010]+{_WORD})*")
_JOINED_ASCII = re.compile("[a-z0-9]+(?:[-_.:/@+]+[a-z0-9]+)*")
_JOINTS = re.compile("[-_.:/@+\u00b7\u2010]+")
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u3400-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]+)"
)
"""Runs of Thai, Lao, Burmese, Khmer, kana, Chinese characters and Hangul."""


@attrs.frozen
class Collected:
    """What a ranking needs to know of a whole collection: its passages, and their words in all."""

    passages: int
    words: int


def words_of(text: str, metadata: Metadata) -> Counter[str]:
    """The words of a passage, from its text and its `heading`, each with how often it is there."""
    heading = metadata.get("heading")
    return Counter(_words(f"{heading}\n{text}" if isinstance(heading, str) else text, whole=True))


def words_asked(query: str) -> list[str]:
    """The different words of a query: at most `WORDS_MAX`, in order, all of one passage's kind.

    Of text without spaces, only the pairs of characters count, unless there is a single one.
    """
    found = dict.fromkeys(_words(query[:QUERY_CHARS], whole=False))
    return list(islice(found, WORDS_MAX))


def telling(counts: Mapping[str, int]) -> list[str]:
    """The words that a search counts: the rarest, as long as their hits are at most `HITS_MAX`.

    `counts` has the number of passages with each word.
    """
    chosen, hits = [], 0
    for word, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        hits += count
        if hits > HITS_MAX:
            break
        if count:
            chosen.append(word)
    return chosen


def ranked(
    hits: Sequence[Mapping[str, int]], lengths: Mapping[str, int], collected: Collected
) -> list[tuple[str, float]]:
    """The ids of all passages with one of the words, best first (ties by id), each with its BM25.

    `hits` has a mapping for each word: how often it is in each passage that has it. `lengths` has
    the number of words of at least these passages.
    """
    scores: dict[str, float] = defaultdict(float)
    average = collected.words / max(collected.passages, 1)
    for of_word in hits:
        rare = weight(len(of_word), collected.passages)
        for name, count in of_word.items():
            long = 1 - LENGTH + LENGTH * lengths[name] / average
            scores[name] += rare * count * (REPETITION + 1) / (count + REPETITION * long)
    rounded = ((name, round(score, rules.SCORE_PLACES)) for name, score in scores.items())
    return sorted(rounded, key=lambda item: (-item[1], item[0]))


def weight(having: int, passages: int) -> float:
    """The weight of a word that so many of the passages have, as in BM25: above 0."""
    return math.log(1 + (passages - having + 0.5) / (having + 0.5))


def _words(text: str, *, whole: bool) -> Iterator[str]:
    """The words of a text in order; `whole` adds each character of text without spaces."""
    folded = _folded(text)
    for joined in (_JOINED_ASCII if folded.isascii() else _JOINED).findall(folded):
        if joined.isalnum() and joined.isascii():
            yield joined[:WORD_CHARS]
            continue
        parts = _JOINTS.split(joined)
        for part in parts:
            yield from _split(part, whole=whole)
        if len(parts) > 1 and not _UNSPACED.search(joined):
            yield "".join(parts)[:WORD_CHARS]


def _split(word: str, *, whole: bool) -> Iterator[str]:
    for number, run in enumerate(_UNSPACED.split(word)):
        if number % 2 == 0:
            if run:
                yield run[:WORD_CHARS]
            continue
        if whole or len(run) == 1:
            yield from run
        yield from (one + other for one, other in pairwise(run))


def _folded(text: str) -> str:
    """A text without case, accents, and differences of form such as full-width letters."""
    return text.lower() if text.isascii() else "".join(map(_folded_piece, pieces(text)))


def _folded_piece(text: str) -> str:
    apart = _IGNORED.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return unicodedata.normalize("NFKC", apart).casefold().translate(_PLAIN)
