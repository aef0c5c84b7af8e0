"""Chooses the sentences that answer a question, and formats the answer. Pure.

A sentence scores higher the more similar it and its source are to the question, the more of the
question's rare words it contains, if the sentence next to it scores high, and if it defines what
the question asks about. The first sentences under a heading with the question's words score higher,
too. A sentence that is similar to one already chosen scores lower.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import attrs

from orchestra.providers.extractive.parsed_prompt import ParsedPrompt, Source
from orchestra.providers.extractive.sentences import sentences
from orchestra.values import Vector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

CANDIDATES_MAX = 400
"""The most sentences that are compared; reasonable prompts have fewer."""
CHOSEN_MAX = 4
CHOSEN_CHARS_MAX = 900

NOTE = "(extractive: sentences quoted from the sources, not generated)"
NO_SOURCES = (
    "There is nothing to answer from: the prompt has no sources. Give them as lines that "
    "begin with [1], [2], and so on."
)
NO_ANSWER = "The sources do not seem to answer this."

# Chosen by trying them on questions about this project's own documents; see
# tests/providers/extractive/test_model.py for what they have to get right.
_MEANING, _WORDS, _SOURCE, _DEFINES, _BESIDE, _ALIKE = 0.6, 0.35, 0.15, 0.25, 0.2, 0.4
_HEADING = 0.6
_HEADING_MIN = 0.5
_HEADING_TERMS_MIN = 2
_GOOD_ENOUGH = 0.3
_OF_THE_BEST = 0.5
_THE_SAME = 0.95

_STEM_CHARS_MIN = 3
_TERM = re.compile(r"[^\W_]+")
_ASKS_WHAT = re.compile(
    r"what(?:'s|\s+is|\s+are)\s+(?:an?\s+|the\s+)?([\w -]{1,40}?)\s*\?", re.IGNORECASE
)
_STOPWORDS = frozenset(
    _TERM.findall(
        """
        a about all an and any are as at be been but by can could did do does for from get had has
        have how i if in into is it its me my no not of on or our should so that the their them then
        there they this to was we were what when where which who why will with would you your
        """
    )
)


@attrs.frozen
class Candidate:
    """A sentence that may be quoted, and the index of its source."""

    source: int
    text: str
    heading: str = ""
    """The heading in the source's label; empty if the label has none."""


def candidates(prompt: ParsedPrompt) -> list[Candidate]:
    """The sentences of all sources, in order, without repetitions; at most `CANDIDATES_MAX`."""
    found: dict[str, Candidate] = {}
    for place, source in enumerate(prompt.sources):
        heading = re.split(r"\s[-–—>|]\s", source.label)[-1] if " " in source.label else ""
        for text in sentences(source.text):
            if len(found) < CANDIDATES_MAX:
                found.setdefault(text.casefold(), Candidate(place, text, heading))
    return list(found.values())


def choose(
    question: str,
    found: Sequence[Candidate],
    *,
    asked: Vector,
    sentences: Sequence[Vector],
    sources: Sequence[Vector],
) -> list[Candidate]:
    """The candidates to quote, grouped by source: first the source of the best candidate.

    Empty if none is good enough. `asked`, `sentences` and `sources` are the vectors of the
    question, of the candidates and of the sources, of unit length.
    """
    import numpy as np  # heavy

    if not found:
        return []
    matrix = _matrix(sentences)
    meaning = matrix @ _matrix([asked])[0]
    nearness = (_matrix(sources) @ _matrix([asked])[0])[[one.source for one in found]]
    words = np.array(_words(question, [one.text for one in found]))
    defines = np.array([_defines(question, one.text) for one in found])
    scores = _MEANING * meaning + _WORDS * words + _SOURCE * nearness + _DEFINES * defines
    scores += _HEADING * np.array(_headed(question, found))
    scores = _with_neighbours(scores, found)
    chosen = _differing(scores, matrix, [len(one.text) for one in found])
    order: dict[int, list[int]] = {}
    for place in chosen:
        order.setdefault(found[place].source, []).append(place)
    return [found[place] for places in order.values() for place in sorted(places)]


def say(chosen: Sequence[Candidate], sources: Sequence[Source]) -> str:
    """Format the answer: the sentences with the marks of their sources, a note, and the sources."""
    if not sources:
        return NO_SOURCES
    if not chosen:
        return f"{NO_ANSWER}\n\n{NOTE}"
    parts: list[str] = []
    for one, after in zip(chosen, [*chosen[1:], None], strict=True):
        text = one.text.rstrip(",;")
        parts.append(text if text[-1:] in '.!?"”' else f"{text}.")
        number = sources[one.source].number
        if number and (after is None or after.source != one.source):
            parts.append(f"[{number}]")
    cited = dict.fromkeys(sources[one.source] for one in chosen)
    lines = [f"[{source.number}] {source.label}" for source in cited if source.label]
    listed = "\n".join(["Sources:", *lines]) if lines else ""
    return "\n\n".join(filter(None, (" ".join(parts), NOTE, listed)))


def _with_neighbours(scores: Numbers, found: Sequence[Candidate]) -> Numbers:
    """The scores, raised for neighbours of good sentences, which often continue the thought."""
    beside = 0 * scores
    for place, (one, after) in enumerate(pairwise(found)):
        if one.source == after.source:
            beside[place] = max(beside[place], scores[place + 1])
            beside[place + 1] = max(beside[place + 1], scores[place])
    better: Numbers = scores + _BESIDE * beside
    return better


def _differing(scores: Numbers, matrix: Numbers, lengths: Sequence[int]) -> list[int]:
    """The best candidate, then further good ones that differ from those chosen before.

    At most `CHOSEN_MAX`, with `CHOSEN_CHARS_MAX` characters in total unless it is only one.
    """
    bar = max(_GOOD_ENOUGH, _OF_THE_BEST * float(scores.max()))
    good = scores >= bar
    alike = 0 * scores
    chosen: list[int] = []
    chars = 0
    while good.any() and len(chosen) < CHOSEN_MAX:
        best = max(good.nonzero()[0].tolist(), key=(scores - _ALIKE * alike).__getitem__)
        chars += lengths[best]
        if chosen and chars > CHOSEN_CHARS_MAX:
            break
        chosen.append(best)
        alike = (matrix @ matrix[best]).clip(alike)
        good &= alike < _THE_SAME
        good[best] = False
    return chosen


def _words(question: str, texts: Sequence[str]) -> list[float]:
    """For each text, the share of the question's words in it, 0 to 1; rare words count more."""
    has = [set(_terms(text)) for text in texts]
    among = Counter(term for terms in has for term in terms)
    weights = {term: math.log(1 + len(texts) / (0.5 + among[term])) for term in _terms(question)}
    whole = math.fsum(weights.values()) or 1
    return [math.fsum(weights[term] for term in weights.keys() & terms) / whole for terms in has]


def _headed(question: str, found: Sequence[Candidate]) -> list[float]:
    """For each candidate, the share of the question's words in its heading, 0 to 1.

    The share gets smaller for each further sentence of a source.
    """
    asks = set(_terms(question))
    before: Counter[int] = Counter()
    headed = []
    for one in found:
        both = len(asks & set(_terms(one.heading)))
        says = both / len(asks) if both >= _HEADING_TERMS_MIN else 0.0  # one word is not enough
        headed.append(says / (1 + before[one.source]) if says > _HEADING_MIN else 0.0)
        before[one.source] += 1
    return headed


def _terms(text: str) -> list[str]:
    """The significant words of a text, in lower case and without their endings."""
    words = (word.casefold() for word in _TERM.findall(text))
    return [_stem(word) for word in words if word not in _STOPWORDS]


def _stem(word: str) -> str:
    for ending in ("ingly", "edly", "ings", "ing", "ies", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= _STEM_CHARS_MIN:
            return word[: -len(ending)]
    return word


def _defines(question: str, text: str) -> float:
    """1 if the question is "what is X?" and the text contains "X is ..."; otherwise 0."""
    subject = _ASKS_WHAT.search(" ".join(question.split()))  # the pattern expects single blanks
    if subject is None:
        return 0.0
    says = rf"\b{re.escape(subject[1])}[`\"”*]*\s+(?:is|are|means)\b"
    return float(bool(re.search(says, text, re.IGNORECASE)))


def _matrix(vectors: Sequence[Vector]) -> Numbers:
    import numpy as np  # heavy

    joined = b"".join(vector.data for vector in vectors)
    return np.frombuffer(joined, "<f4").reshape(len(vectors), -1).astype(np.float64)
