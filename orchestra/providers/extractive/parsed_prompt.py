"""Parses a prompt for the extractive model: finds its question and its sources.

A source begins with a line such as `[1] text`, `[1] path/to/file.md: text` or
`[1] path/to/file.md — Heading: text`. It ends before the next such line, before a line
`Question: ...`, or at the end of its message. The question is in the text outside of the sources,
or at the end of the last one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from orchestra.values import Message

_MARK = re.compile(r"^\[(\d{1,4})\][ \t]*", re.MULTILINE)
_LABEL = re.compile(
    r"(?P<label>(?:\w{1,20}://\S{1,500}?|[^\s:]{1,500}\.\w{1,8})"  # a URL or a file name,
    r"(?:[ \t]+[-–—|][ \t]+\S[^\n]{0,200}?)?)"  # and perhaps a heading
    r"(?::[ \t]+|:?[ \t]*\n)"
)
_QUESTION = re.compile(
    r"^[ \t]*(?:[\w-]{1,30}[ \t]+)?question[ \t]*:[ \t]*(?P<asked>\S.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_PARAGRAPHS = re.compile(r"\n[ \t]*\n")
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")


@attrs.frozen
class Source:
    """One source: its number in the prompt (0 if it has none), its label, and its text."""

    number: int
    label: str
    text: str


@attrs.frozen
class ParsedPrompt:
    """A parsed prompt. `question` is empty if there is none."""

    question: str
    sources: tuple[Source, ...]


def read(messages: Sequence[Message]) -> ParsedPrompt:
    """Parse messages: the sources in all of them, and the last question.

    The question is the text of a line `Question: ...`, else a sentence with a question mark outside
    of the sources, else one in the last paragraph of the last source, else the last paragraph
    outside. Without any `[1]`, each paragraph except the question is a source.
    """
    outside: list[str] = []
    sources: list[Source] = []
    for message in messages:
        rest, found = _split_sources(message.text)
        outside.append(rest)
        sources += found
    question = _labelled_question(outside) or _asking_sentence(outside)
    if sources and not question:
        question, sources[-1] = _asked_at_the_end(sources[-1])
    paragraphs = [p.strip() for text in outside for p in _PARAGRAPHS.split(text) if p.strip()]
    if not question and paragraphs:
        question = paragraphs[-1]
    if not sources:
        sources = [Source(0, "", p) for p in paragraphs if question not in p]
    return ParsedPrompt(question, tuple(sources))


def _split_sources(content: str) -> tuple[str, list[Source]]:
    """Split the text of a message into the text outside of its sources, and the sources."""
    marks: list[re.Match[str]] = []
    for mark in _MARK.finditer(content):
        if not marks or int(mark[1]) == int(marks[-1][1]) + 1:  # otherwise it is a footnote
            marks.append(mark)
    if not marks:
        return content, []
    question = _QUESTION.search(content, marks[-1].end())
    end = question.start() if question else len(content)
    ends = [*(mark.start() for mark in marks[1:]), end]
    sources = [
        _source(int(mark[1]), content[mark.end() : at])
        for mark, at in zip(marks, ends, strict=True)
    ]
    return f"{content[: marks[0].start()]}\n\n{content[end:]}", sources


def _source(number: int, text: str) -> Source:
    label = _LABEL.match(text)
    if label is None:
        return Source(number, "", text.strip())
    return Source(number, label["label"].strip(), text[label.end() :].strip())


def _labelled_question(outside: Sequence[str]) -> str:
    """The text of the last line `Question: ...`; empty without such a line."""
    found = [each["asked"].strip() for text in outside for each in _QUESTION.finditer(text)]
    return found[-1] if found else ""


def _asking_sentence(outside: Sequence[str]) -> str:
    """The last sentence with a question mark; empty without one."""
    asking = [part.strip() for text in outside for part in _SENTENCES.split(text) if "?" in part]
    return asking[-1] if asking else ""


def _asked_at_the_end(source: Source) -> tuple[str, Source]:
    """Split off the last paragraph of a source if it asks a question.

    Returns the question, and the source without that paragraph; "" and the whole source otherwise.
    """
    *before, last = _PARAGRAPHS.split(source.text)
    question = _asking_sentence([last])
    if not before or not question:
        return "", source
    return question, attrs.evolve(source, text="\n\n".join(before))
